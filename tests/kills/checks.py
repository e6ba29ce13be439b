"""What must hold when everything is over: the log, the switch and the application held against each other."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from plivotx.events import CallbackGivenUp, CallEnded, CallRequested, Event
from plivotx.projections.call import OUTCOME_UNKNOWN
from tests.kills.world import LATE, MARGIN, World


class Verdict(msgspec.Struct):
    """What was counted, and what is wrong."""

    counted: dict[str, str]
    lost: dict[str, str]
    """By RequestUUID, what happened to calls that were accepted or are on record."""
    twice: dict[str, str]
    """By RequestUUID, who was dialled more often than allowed."""
    wrong: list[str]
    """Everything else that must not be."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong at all."""
        return not (self.lost or self.twice or self.wrong)


def judge(world: World) -> Verdict:
    """Hold the log, the switch and the application against each other."""
    streams = {name: [event for _, event in recorded] for name, recorded in world.streams().items()}
    told = Counter(
        uuid for _, path, uuid, status in world.application.told if (path, status) == ("hangup", 200)
    )
    given_up = {name for name, events in streams.items() if _gave_up(events)}
    ended = [name for name, events in streams.items() if _ends(events) == 1]
    unknown = [name for name, events in streams.items() if _cause(events) == OUTCOME_UNKNOWN]
    dialled = {each.variables.get("plivo_request_uuid") for each in world.phone.switch.dialled}
    on_record = {events[0].account_sid for events in streams.values()}
    lost = dict(_lost(world, streams, set(told) | given_up))
    twice = dict(_dialled_twice(world, streams))
    past, wrong = _limits(world, streams)
    wrong += _left(world)
    slowest = max(world.starts, default=(0.0, 0))
    seconds = world.load_seconds
    counted = {
        "accepted": f"{len(world.accepted)}",
        "refused": f"{len(world.refused)}",
        "in doubt": f"{len(world.doubtful)} ({len(on_record & set(world.doubtful))} of them on record)",
        "recorded": f"{len(streams)}",
        "ended exactly once": f"{len(ended)}",
        "with unknown outcome": f"{len(unknown)} ({len(dialled & set(unknown))} of them were dialled)",
        "hangup told": f"{len(told)} ({sum(each > 1 for each in told.values())} of them more than once)",
        "hangup given up": f"{len(given_up - set(told))}",
        "LOST": f"{len(lost)}",
        "channels dialled": f"{len(world.phone.switch.dialled)}",
        "DIALLED TWICE": f"{len(twice)}",
        "channels left": f"{len(world.phone.mine())}",
        "longest past a limit": f"{past:.1f} s (the switch's own limit comes after {MARGIN} s)",
        "kills": f"{world.killed}",
        "starts": f"{len(world.starts)}, {sum(each for each, _ in world.starts) / len(world.starts):.2f} s each,"
        f" slowest {slowest[0]:.2f} s with {slowest[1]} open calls",
        "open at a start": f"{max(number for _, number in world.starts)} at most",
        "load": f"{seconds:.0f} s, {len(streams) / seconds:.0f} calls a second",
        "memory at the end": f"{world.memory:.0f} MB",
    }
    return Verdict(counted=counted, lost=lost, twice=twice, wrong=wrong)


def _ends(events: list[Event]) -> int:
    return sum(isinstance(each, CallEnded) for each in events)


def _cause(events: list[Event]) -> str:
    return next((each.cause for each in events if isinstance(each, CallEnded)), "")


def _gave_up(events: list[Event]) -> bool:
    return any(isinstance(each, CallbackGivenUp) and each.key == "hangup" for each in events)


def _lost(world: World, streams: dict[str, list[Event]], settled: set[str]) -> Iterator[tuple[str, str]]:
    for name in {*world.accepted, *streams}:
        if name not in streams:
            yield name, "was accepted and is not on record"
        elif _ends(streams[name]) != 1:
            yield name, f"ended {_ends(streams[name])} times"
        elif name not in settled:
            yield name, "ended and the application was never told"


def _dialled_twice(world: World, streams: dict[str, list[Event]]) -> Iterator[tuple[str, str]]:
    orders = Counter(channel for _, channel in world.phone.orders)
    dialled: dict[str, list[str]] = {}
    for each in world.phone.switch.dialled:
        dialled.setdefault(each.variables.get("plivo_request_uuid", "?"), []).append(each.uuid)
    for name, channels in dialled.items():
        request = streams.get(name, [None])[0]
        if not isinstance(request, CallRequested):
            yield name, "was dialled and is not on record"
            continue
        allowed = sum(each.tries for each in request.gateways)
        for uuid in channels:
            if orders[uuid] > 1:
                yield name, f"was dialled as {uuid} by {orders[uuid]} commands"
        if len(channels) > allowed:
            yield name, f"was dialled as {channels}, {allowed} channels were allowed"
        for uuid in channels[:-1]:
            channel = world.phone.gone.get(uuid)
            if channel and (channel.progress or channel.progress_media or channel.answered_at):
                yield name, f"was dialled again after {uuid} had rung or was answered"


def _limits(world: World, streams: dict[str, list[Event]]) -> tuple[float, list[str]]:
    """By how many seconds a limit was overrun at most, and who overran even the switch's own."""
    ended = {each.uuid: world.phone.wall(each.at) for each in world.phone.switch.ended}
    longest, wrong = 0.0, []
    for uuid, channel in world.phone.gone.items():
        request = streams.get(channel.variables.get("plivo_request_uuid", ""), [None])[0]
        if not isinstance(request, CallRequested):
            continue
        rang = min(filter(None, (channel.progress, channel.progress_media)), default=0)
        limits = []
        if rang and request.hangup_on_ring is not None:
            limits.append(rang / 1e6 + request.hangup_on_ring)
        if channel.answered_at and request.time_limit is not None:
            limits.append(channel.answered_at / 1e6 + request.time_limit)
        late = max((ended[uuid] - each for each in limits), default=0.0)
        longest = max(longest, late)
        if late > MARGIN + LATE:
            wrong.append(f"channel {uuid} of {request.request_uuid} outlived its limit by {late:.1f} s")
    return longest, wrong


def _left(world: World) -> list[str]:
    """What should have gone: channels, lines on the switch, open calls, a whole file."""
    wrong = [f"channel {each} is still up" for each in world.phone.mine()]
    wrong += [f"the switch still keeps {key}: {value}" for key, value in world.phone.switch.hash.items()]
    wrong += [f"a call was refused: {each}" for each in world.refused]
    wrong += [f"the server failed: {each}" for each in world.failures()]
    wrong += [f"{world.open_streams()} calls are still open"] if world.open_streams() else []
    wrong += [f"SQLite says of the log: {world.whole()}"] if world.whole() != "ok" else []
    return wrong


def story(world: World, name: str) -> str:
    """Everything that happened to one call, in order of time."""
    channels = {
        each.uuid for each in world.phone.switch.dialled if each.variables.get("plivo_request_uuid") == name
    }
    lines = [(at, "recorded", str(event)) for at, event in world.streams().get(name, [])]
    lines += [
        (world.phone.wall(each.at), "dialled", f"{each.uuid} {each.prefix}{each.destination}")
        for each in world.phone.switch.dialled
        if each.uuid in channels
    ]
    lines += [
        (world.phone.wall(at), "originate read", uuid) for at, uuid in world.phone.orders if uuid in channels
    ]
    lines += [
        (world.phone.wall(each.at), "channel ended", f"{each.uuid} {each.cause}")
        for each in world.phone.switch.ended
        if each.uuid in channels
    ]
    lines += [
        (at, "application", f"{path}, answered {status}")
        for at, path, uuid, status in world.application.told
        if uuid == name
    ]
    lines += [(at, "server", what) for at, what in world.lives]
    lines.sort(key=lambda line: line[0])
    return "\n".join(f"{at - world.began:9.3f}  {what:<14} {text}" for at, what, text in lines)
