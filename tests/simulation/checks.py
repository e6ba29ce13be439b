"""What must hold when a story is over.  Each check gives a sentence for each thing that does not."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from plivotx.emulator.switch import Dialled
from plivotx.events import (
    AttemptStarted,
    CallbackDelivered,
    CallbackFailed,
    CallbackGivenUp,
    CallbackRenewed,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelEnded,
    Event,
    Gateway,
    HangupRequested,
    StepStarted,
)
from plivotx.rest.app import HANGUP_CAUSE
from plivotx.testing import WALL
from tests.simulation.world import CONFIG, SimulatedWorld

SOON = 10.0
"""Seconds within which the end of a channel must be on record, while nothing keeps plivotx from it."""
LATE = 1.5
"""Seconds that a hangup may come after its limit while nothing keeps plivotx from it."""


def complaints(world: SimulatedWorld) -> list[str]:
    """Everything that is wrong with the world after its story."""
    return [complaint for check in CHECKS for complaint in check(world)]


def accepted_calls_are_on_record(world: SimulatedWorld) -> Iterator[str]:
    for asked in world.asked:
        if asked.accepted and asked.accepted not in world.disk.streams:
            yield f"call {asked.accepted} was accepted and is not on record"


def each_call_ends_once(world: SimulatedWorld) -> Iterator[str]:
    for stream, recorded in world.disk.streams.items():
        ends = sum(isinstance(each.event, CallEnded) for each in recorded)
        if ends != 1:
            yield f"call {stream} has {ends} CallEnded"
        if not any(isinstance(each.event, CallClosed) for each in recorded):
            yield f"call {stream} was never closed"


def each_end_is_told(world: SimulatedWorld) -> Iterator[str]:
    told = Counter(each["RequestUUID"] for each in world.application.told("hangup"))
    rung = Counter(each["RequestUUID"] for each in world.application.told("ring"))
    for stream in world.disk.streams:
        events = world.events(stream)
        if not told[stream] and "hangup" not in given_up(events):
            yield f"the end of call {stream} was never told"
        if world.calm and (told[stream] != 1 or rung[stream] > 1):
            yield f"call {stream} was told {rung[stream]} rings and {told[stream]} ends"


def given_up(events: list[Event]) -> set[str]:
    """The callbacks that stand as given up in the end."""
    found: set[str] = set()
    for each in events:
        if isinstance(each, CallbackGivenUp):
            found.add(each.key)
        elif isinstance(each, CallbackRenewed):
            found.discard(each.key)
    return found


def what_is_sent_again_is_so_once_and_to_its_end(world: SimulatedWorld) -> Iterator[str]:
    """Each answer that says so has one renewal on record, of a callback that was given up; then it is tried anew."""
    answered = Counter(
        (each.stream, key)
        for each in world.resends
        for answer in each.answers
        if answer["Success"]
        for key in answer["Callbacks"]
    )
    posted = Counter[str]()
    for each in world.resends:
        posted[each.stream] += each.posts
    for stream in world.disk.streams:
        renewed = Counter[str]()
        tries: dict[str, int] = {}
        standing: dict[str, str] = {}
        for event in world.events(stream):
            match event:
                case CallbackFailed(key=key):
                    tries[key] = tries.get(key, 0) + 1
                case CallbackDelivered(key=key):
                    standing[key] = "delivered"
                case CallbackGivenUp(key=key):
                    standing[key] = "given up"
                    if tries.get(key) != CONFIG.callback_tries:
                        yield f"{key} of call {stream} was given up after {tries.get(key)} tries"
                case CallbackRenewed(key=key):
                    if standing.get(key) != "given up":
                        yield f"{key} of call {stream} is sent again and was {standing.get(key, 'not settled')}"
                    renewed[key] += 1
                    tries[key], standing[key] = 0, "sent again"
        for key, times in renewed.items():
            if standing[key] == "sent again":
                yield f"{key} of call {stream} was to be sent again, and came to no end"
            if times > posted[stream]:
                yield f"{key} of call {stream} was sent again {times} times, asked for {posted[stream]} times"
        for (asked, key), times in answered.items():
            if asked == stream and times > renewed[key]:
                yield f"{key} of call {stream} was said to be sent again {times} times, it was so {renewed[key]}"


def what_was_delivered_was_received(world: SimulatedWorld) -> Iterator[str]:
    received = Counter(
        (each.params["RequestUUID"], each.path)
        for each in world.application.received
        if each.path in ("ring", "hangup")
    )
    for stream in world.disk.streams:
        delivered = Counter(each.key for each in world.events(stream) if isinstance(each, CallbackDelivered))
        for key in ("ring", "hangup"):
            if delivered[key] > min(1, received[stream, key]):
                yield f"{key} of call {stream} was delivered {delivered[key]} times"


def nothing_is_dialled_twice(world: SimulatedWorld) -> Iterator[str]:
    requests = {
        stream: recorded[0].event
        for stream, recorded in world.disk.streams.items()
        if isinstance(recorded[0].event, CallRequested)
    }
    for uuid, times in Counter(each.uuid for each in world.switch.dialled).items():
        if times > 1:
            yield f"channel {uuid} was dialled {times} times"
    per_call = Counter(each.variables.get("plivo_request_uuid", "") for each in world.switch.dialled)
    for stream, times in per_call.items():
        if stream not in requests:
            yield f"somebody was dialled for {stream or 'no call'}, which is not on record"
        elif times > sum(each.tries for each in requests[stream].gateways):
            yield f"call {stream} was dialled {times} times"


def attempts(world: SimulatedWorld) -> Iterator[tuple[str, list[Dialled]]]:
    """The legs dialled for each call on record, in order."""
    dialled: dict[str, list[Dialled]] = {}
    for each in world.switch.dialled:
        dialled.setdefault(each.variables.get("plivo_request_uuid", ""), []).append(each)
    yield from ((stream, legs) for stream, legs in dialled.items() if stream in world.disk.streams)


def gateways_are_tried_in_order(world: SimulatedWorld) -> Iterator[str]:
    for stream, legs in attempts(world):
        request = world.events(stream)[0]
        wanted = iter(each.prefix + request.to_number for each in request.gateways for _ in range(each.tries))
        for leg in legs:  # one may be passed over, none comes out of turn
            if leg.prefix + leg.destination not in wanted:
                yield f"call {stream} dialled {leg.prefix}{leg.destination} out of turn"


def one_leg_is_up_at_a_time(world: SimulatedWorld) -> Iterator[str]:
    ended = {each.uuid: each.at for each in world.switch.ended}
    for stream, legs in attempts(world):
        for leg, following in pairwise(legs):
            if leg.uuid in ended and ended[leg.uuid] > following.at:
                yield f"call {stream} dialled {following.prefix} while {leg.prefix} was not over"


def nobody_is_tried_after_one_that_rang(world: SimulatedWorld) -> Iterator[str]:
    for stream, legs in attempts(world):
        for leg in legs[:-1]:
            channel = world.gone.get(leg.uuid)
            if channel and (channel.progress or channel.progress_media or channel.answered_at):
                yield f"call {stream} went on after {leg.prefix} had rung or was answered"


def failures_are_followed_soon(world: SimulatedWorld) -> Iterator[str]:
    if world.lossy or world.restarted:
        return
    ended = {each.uuid: each.at for each in world.switch.ended}
    for stream, legs in attempts(world):
        for leg, following in pairwise(legs):
            late = following.at - ended.get(leg.uuid, following.at)
            if late > SOON + world.impairment(ended.get(leg.uuid, 0) - 1, following.at):
                yield f"call {stream} dialled {following.prefix} {late:.1f} s after the attempt before it"


def hangups_are_done_soon_and_nobody_is_dialled_after_them(world: SimulatedWorld) -> Iterator[str]:
    asked = {each.stream: at for at, each in world.recorded if isinstance(each.event, HangupRequested)}
    over = {each.stream: at for at, each in world.recorded if isinstance(each.event, CallEnded)}
    for at, each in world.recorded:
        if isinstance(each.event, AttemptStarted) and at > asked.get(each.stream, at):
            yield f"call {each.stream} was dialled after a client had hung it up"
    for stream, at in asked.items():
        late = over.get(stream, at) - at
        if not world.lossy and not world.restarted and late > SOON + world.impairment(at - 1, at + late):
            yield f"call {stream} was hung up {late:.1f} s late"


def digits_are_sent_once(world: SimulatedWorld) -> Iterator[str]:
    for stream, legs in attempts(world):
        sent = world.events(stream)[0].send_digits.partition("@")[0].replace("w", "").replace("W", "")
        for leg in legs:
            heard = world.switch.heard.get(leg.uuid, "")
            if not sent.startswith(heard):
                yield f"the far end of call {stream} heard {heard}, not {sent}"


def request_gateway(request: CallRequested, number: int) -> Gateway:
    """The gateway of attempt *number*."""
    return [each for each in request.gateways for _ in range(each.tries)][number - 1]


def limits_are_kept(world: SimulatedWorld) -> Iterator[str]:
    ended = {each.uuid: each.at for each in world.switch.ended}
    for uuid, channel in world.gone.items():
        stream = channel.variables.get("plivo_request_uuid", "")
        if stream not in world.disk.streams or uuid not in ended:
            continue
        request = world.events(stream)[0]
        rang = min(filter(None, (channel.progress, channel.progress_media)), default=0)
        limits = []
        if rang and request.hangup_on_ring is not None:
            limits.append(rang / 1e6 - WALL + request.hangup_on_ring)
        if channel.answered_at:
            longest = min(request.time_limit or CONFIG.max_call_duration, CONFIG.max_call_duration)
            limits.append(channel.answered_at / 1e6 - WALL + longest)
        for limit in limits:
            late = ended[uuid] - limit
            impaired = world.impairment(limit - 0.1, ended[uuid])
            if not world.lossy and not world.restarted and late > LATE + impaired:
                yield f"channel {uuid} outlived its limit by {late:.1f} s, {impaired:.1f} s of them excused"
            if uuid not in world.revived and late > CONFIG.backstop_margin + LATE:
                yield f"channel {uuid} outlived even the limit of the switch: {late:.1f} s late"
            if uuid in world.revived and not world.lossy:
                back = world.revived[uuid]
                healthy = limit - back - world.impairment(back, limit)
                if healthy > 3 and late > CONFIG.backstop_margin + LATE + 1:
                    yield f"revived channel {uuid} outlived the limit that was set anew: {late:.1f} s late"
                if late > CONFIG.backstop_margin + LATE + impaired + 60:
                    yield f"revived channel {uuid} outlived its limit by {late:.1f} s"


def early_media_is_limited(world: SimulatedWorld) -> Iterator[str]:
    """Where digits may be sent in early media the switch's own time-out ends when that begins."""
    if world.lossy or world.restarted:
        return
    ended = {each.uuid: each.at for each in world.switch.ended}
    for stream, legs in attempts(world):
        request, *events = world.events(stream)
        numbers = {each.channel: each.number for each in events if isinstance(each, AttemptStarted)}
        for leg in legs:
            channel = world.gone.get(leg.uuid)
            if not request.early_digits or channel is None or not channel.progress_media:
                continue
            limit = channel.created / 1e6 - WALL + request_gateway(request, numbers[leg.uuid]).timeout
            over = channel.answered_at / 1e6 - WALL if channel.answered_at else ended[leg.uuid]
            if over > limit + LATE + world.impairment(limit - 0.1, over):
                yield f"early media of channel {leg.uuid} went on for {over - limit:.1f} s beyond its time-out"


def no_channel_is_left(world: SimulatedWorld) -> Iterator[str]:
    for uuid in world.mine():
        yield f"channel {uuid} is still up"
    # Of a channel that a dead process had made after its call was closed only events can tell; if they get lost
    # as well, the next connection deletes what it left.
    unheard = world.lossy and world.faults.get("bytes of the dead")
    if world.switch.hash and not unheard:
        yield f"the switch still keeps {world.switch.hash}"


def nothing_is_left_in_memory(world: SimulatedWorld) -> Iterator[str]:
    if world.process is None:
        yield "the server is not running"
        return
    for name, count in world.idle().items():
        if count:
            yield f"{count} {name} are left in memory"
    timers = world.process.clock.getDelayedCalls()
    if len(timers) > 1:  # the one that watches the connections
        yield f"{len(timers)} timers are left: {[str(each) for each in timers]}"


def the_read_model_agrees(world: SimulatedWorld) -> Iterator[str]:
    for stream, standing in world.disk.standings.items():
        cause = next((each.cause for each in world.events(stream) if isinstance(each, CallEnded)), None)
        if (
            standing.open
            or standing.columns.get("undelivered") != len(given_up(world.events(stream)))
            or standing.columns.get("state") != "closed"
            or standing.columns.get("cause") != cause
        ):
            yield f"the row of call {stream} says {standing.columns}"


def ends_are_recorded_soon(world: SimulatedWorld) -> Iterator[str]:
    """Soon: within some seconds of the end of the channel, and of what kept plivotx from its work."""
    if world.lossy or world.restarted:
        return
    ended = {each.uuid: each.at for each in world.switch.ended}
    recorded = {each.stream: at for at, each in world.recorded if isinstance(each.event, CallEnded)}
    for stream, (*_, dialled) in attempts(world):
        started = [each.channel for each in world.events(stream) if isinstance(each, AttemptStarted)]
        if started[-1:] == [dialled.uuid] and dialled.uuid in ended and stream in recorded:
            late = recorded[stream] - ended[dialled.uuid]
            if late > SOON + world.impairment(ended[dialled.uuid] - 1, recorded[stream]):
                yield f"the end of call {stream} was recorded {late:.1f} s late"


def nobody_lives_without_a_call(world: SimulatedWorld) -> Iterator[str]:
    over = {each.stream: at for at, each in world.recorded if isinstance(each.event, CallEnded)}
    ended = {each.uuid: each.at for each in world.switch.ended}
    dialled = {each.uuid: each.at for each in world.switch.dialled}
    for uuid, channel in world.gone.items():
        stream = channel.variables.get("plivo_request_uuid", "")
        if uuid not in ended or stream not in over:
            continue
        begin = max(over[stream], dialled.get(uuid, 0.0))
        late = ended[uuid] - begin
        if late > SOON + world.impairment(begin - 1, ended[uuid]):
            yield f"channel {uuid} lived {late:.1f} s without a call"


def causes_are_true(world: SimulatedWorld) -> Iterator[str]:
    """The switch knows why a channel ended, and keeps it for us as long as it is not restarted."""
    if "switch restarted" in world.faults:
        return
    over: dict[str, float] = {}
    for at, each in world.recorded:
        if isinstance(each.event, ChannelEnded):
            over.setdefault(each.event.channel, at)
    ended = {each.uuid: each.cause for each in world.switch.ended}
    for stream, (*_, dialled) in attempts(world):
        told = next((each.cause for each in world.events(stream) if isinstance(each, CallEnded)), None)
        started = [each.channel for each in world.events(stream) if isinstance(each, AttemptStarted)]
        if started[-1:] != [dialled.uuid]:
            continue  # of the last attempt there never was a channel
        if over.get(dialled.uuid, dialled.at) < dialled.at:
            continue  # read by the switch when its end had been concluded: an orphan
        if any(isinstance(each, HangupRequested) for each in world.events(stream)) and told == HANGUP_CAUSE:
            continue  # whatever the last attempt came to before it could be hung up
        if dialled.uuid in ended and told != ended[dialled.uuid]:
            yield f"call {stream} ended with {told}, its channel with {ended[dialled.uuid]}"


def steps_are_sent_once(world: SimulatedWorld) -> Iterator[str]:
    marks = Counter((uuid, arg) for uuid, app, arg, _ in world.switch.executed if app == "set")
    for (uuid, mark), times in marks.items():
        if times > 1 and uuid not in world.revived:
            yield f"{mark} was set {times} times on channel {uuid}"


def steps_run_once_and_in_order(world: SimulatedWorld) -> Iterator[str]:
    """As they are on record; and the switch ran no application of a step that had been overtaken."""
    for stream in world.disk.streams:
        begun = [each.key for each in world.events(stream) if isinstance(each, StepStarted)]
        for key, times in Counter(begun).items():
            if times > 1:
                yield f"step {key} of call {stream} began {times} times"
        places = [tuple(map(int, key.split("/")))[:2] for key in begun]
        if places != sorted(places):
            yield f"the verbs of call {stream} began in the order {begun}"
    marks: dict[str, list[tuple[int, ...]]] = {}
    for uuid, app, arg, _ in world.switch.executed:
        if app == "set" and arg.startswith("plivotx_step=") and uuid not in world.revived:
            marks.setdefault(uuid, []).append(tuple(map(int, arg.partition("=")[2].split("/"))))
    for uuid, keys in marks.items():
        if keys != sorted(keys):
            yield f"the steps on channel {uuid} ran in the order {keys}"


def what_follows_waits_for_what_ran(world: SimulatedWorld) -> Iterator[str]:
    """Between the two marks of a step there is its application and nothing else of ours."""
    running: dict[str, str] = {}
    for uuid, app, arg, _ in world.switch.executed:
        if app != "set" or uuid in world.revived:
            continue
        name, _, key = arg.partition("=")
        if name == "plivotx_step":
            if uuid in running:
                yield f"step {key} began on channel {uuid} while {running[uuid]} ran"
            running[uuid] = key
        elif name == "plivotx_done":
            running.pop(uuid, None)


CHECKS = (
    steps_run_once_and_in_order,
    what_follows_waits_for_what_ran,
    ends_are_recorded_soon,
    nobody_lives_without_a_call,
    causes_are_true,
    steps_are_sent_once,
    accepted_calls_are_on_record,
    each_call_ends_once,
    each_end_is_told,
    what_is_sent_again_is_so_once_and_to_its_end,
    what_was_delivered_was_received,
    nothing_is_dialled_twice,
    gateways_are_tried_in_order,
    one_leg_is_up_at_a_time,
    nobody_is_tried_after_one_that_rang,
    failures_are_followed_soon,
    hangups_are_done_soon_and_nobody_is_dialled_after_them,
    digits_are_sent_once,
    limits_are_kept,
    early_media_is_limited,
    no_channel_is_left,
    nothing_is_left_in_memory,
    the_read_model_agrees,
)
