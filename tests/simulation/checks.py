"""What must hold when a story is over.  Each check gives a sentence for each thing that does not."""

from collections import Counter
from collections.abc import Iterator

from plivotx.events import CallbackGivenUp, CallClosed, CallEnded, CallRequested
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
        given_up = {each.key for each in events if isinstance(each, CallbackGivenUp)}
        if not told[stream] and "hangup" not in given_up:
            yield f"the end of call {stream} was never told"
        if world.calm and (told[stream] != 1 or rung[stream] > 1):
            yield f"call {stream} was told {rung[stream]} rings and {told[stream]} ends"


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


def no_channel_is_left(world: SimulatedWorld) -> Iterator[str]:
    for uuid in world.mine():
        yield f"channel {uuid} is still up"
    if world.switch.hash:
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
    for dialled in world.switch.dialled:
        stream = dialled.variables.get("plivo_request_uuid", "")
        if dialled.uuid in ended and stream in recorded:
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
    over = {each.stream: at for at, each in world.recorded if isinstance(each.event, CallEnded)}
    ended = {each.uuid: each.cause for each in world.switch.ended}
    for dialled in world.switch.dialled:
        stream = dialled.variables.get("plivo_request_uuid", "")
        told = next((each.cause for each in world.events(stream) if isinstance(each, CallEnded)), None)
        if over.get(stream, 0.0) < dialled.at:
            continue  # read by the switch when the call had been concluded: an orphan
        if dialled.uuid in ended and told != ended[dialled.uuid]:
            yield f"call {stream} ended with {told}, its channel with {ended[dialled.uuid]}"


def steps_are_sent_once(world: SimulatedWorld) -> Iterator[str]:
    marks = Counter((uuid, arg) for uuid, app, arg, _ in world.switch.executed if app == "set")
    for (uuid, mark), times in marks.items():
        if times > 1 and uuid not in world.revived:
            yield f"{mark} was set {times} times on channel {uuid}"


CHECKS = (
    ends_are_recorded_soon,
    nobody_lives_without_a_call,
    causes_are_true,
    steps_are_sent_once,
    accepted_calls_are_on_record,
    each_call_ends_once,
    each_end_is_told,
    nothing_is_dialled_twice,
    limits_are_kept,
    no_channel_is_left,
    nothing_is_left_in_memory,
    the_read_model_agrees,
)
