"""Watch the channels, and hang them up: what was missed of one is found out by asking the switch about it.

That may be a lost connection, a restart of plivotx or of FreeSWITCH, an event that never came.  Only what is
certain is recorded, and what nobody can know any more is called so.
"""

from collections.abc import Sequence
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from plivotx.causes import CAUSES
from plivotx.commands import HangUp, Watch
from plivotx.engine import Ticket
from plivotx.esl import dialstring, translate
from plivotx.esl.connections import Disconnected, Switch, Waiters
from plivotx.esl.session import Headers
from plivotx.events import ChannelRang, Event, JobFailed
from plivotx.handlers.switch.board import END_LAG, LOOK_AGAIN, Board, missing
from plivotx.handlers.switch.dialling import Dialling
from plivotx.handlers.switch.steps import Steps
from plivotx.projections.call import Attempt
from plivotx.waiting import sleep

log = Logger()

KILL_AGAIN = 5.0
"""Seconds after which a channel that was to be hung up is hung up again."""
KILL_SOON = 0.2
"""The same for a channel that the switch has not made yet."""
UNKNOWN_CAUSE = "NORMAL_CLEARING"
"""What a channel is hung up with where what is on record is no cause: FreeSWITCH takes a word so, but not all texts."""
GRACE = 60.0
"""Seconds beyond the switch's own limits after which a channel must be gone, reachable or not."""


class Watching:
    """Does `Watch` and `HangUp`."""

    def __init__(self, board: Board, dialling: Dialling, steps: Steps) -> None:
        self._board = board
        self._dialling = dialling
        self._steps = steps
        self._seen: set[str] = set()  # channels that exist, by their events
        self._ends: dict[str, list[Deferred[None]]] = {}
        self._concluding: set[str] = set()  # channels that are gone and whose end is being found out

    def idle(self) -> dict[str, int]:
        """What is held in memory: all zero when no call is open.  For tests and for metrics."""
        return {"seen": len(self._seen), "ends": len(self._ends), "concluding": len(self._concluding)}

    def seen(self, channel: str) -> None:
        """Take note that the channel exists, for an event of it came."""
        self._seen.add(channel)

    def has_seen(self, channel: str) -> bool:
        """Whether the channel was heard of, and not of its end."""
        return channel in self._seen

    def gone(self, channel: str) -> None:
        """Take note that the end of the channel was told, and is on its way into the log."""
        self._seen.discard(channel)
        for waiter in self._ends.pop(channel, ()):
            waiter.callback(None)

    async def end(self, channel: str, seconds: float) -> bool:
        """Whether the end event of *channel* comes within *seconds*."""
        waiter: Deferred[None] = Deferred()
        self._ends.setdefault(channel, []).append(waiter)
        try:
            await self._board.wait(Waiters(), seconds, waiter)
            return waiter.called
        finally:
            waiting = self._ends.get(channel, [])
            if waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._ends[channel]

    async def watch(self, command: Watch, ticket: Ticket) -> Sequence[Event]:
        """Look at the channel after each new connection, and now and then besides."""
        switch = self._board.switches.get(command.switch)
        if switch is None:
            log.error(
                "call {call} is on switch {name}, which is not configured",
                call=command.stream,
                name=command.switch,
            )
            return (missing(command.channel),)
        ring_limit = max(each.timeout for each in ticket.call.request.gateways)
        patience = command.backstop + ring_limit + GRACE
        # Spread, so that ten thousand channels are not for ever looked at in the same moment.
        again = LOOK_AGAIN * (0.75 + crc32(command.channel.encode()) / 0xFFFFFFFF / 2)
        looked_at = self._dialling.written(command.channel)  # nothing was missed since it was dialled
        self._board.watched.add(command.channel)
        self._board.calls[switch.name] += 1
        try:
            while True:
                if not await self._board.wait_up(switch, patience):
                    log.error(
                        "switch {name} is gone for good; giving up {channel}",
                        name=switch.name,
                        channel=command.channel,
                    )
                    return (missing(command.channel),)
                try:
                    epoch = switch.epoch
                    if not self._dialling.is_unwritten(command.channel) and epoch not in (
                        looked_at,
                        self._dialling.written(command.channel),
                    ):
                        await self._compare(switch, command, ticket)
                        looked_at = epoch
                        if switch.epoch != epoch:
                            continue  # what was found took so long to be recorded that it is old
                    await self._board.until_changed(switch, again)
                    if switch.epoch == epoch and switch.up:
                        looked_at = None
                        # An event may be lost on the very connection: from now on the channel is looked at.
                        self._dialling.forget(command.channel)
                except Disconnected:
                    continue
        finally:
            self._dialling.forget(command.channel)
            self._seen.discard(command.channel)
            self._board.watched.discard(command.channel)
            self._board.calls[switch.name] -= 1
            self._steps.forget(command.channel)

    async def hang_up(self, command: HangUp, ticket: Ticket) -> Sequence[Event]:
        """Kill the channel, again and again, until its end is on record."""
        if self._dialling.call_off(command.channel):
            return (JobFailed(channel=command.channel, cause=command.cause, dialled=False),)
        cause = command.cause
        if cause.upper() not in CAUSES:
            log.warn(
                "{channel} is hung up with {other}: no switch knows {cause!r}",
                channel=command.channel,
                other=UNKNOWN_CAUSE,
                cause=cause[:80],
            )
            cause = UNKNOWN_CAUSE
        switch = self._board.switches.get(command.switch)
        while switch is not None:
            await switch.when_up()
            again = KILL_AGAIN
            try:
                reply = await switch.api(f"uuid_kill {command.channel} {cause}")
                if not reply.ok and self._to_come(switch, command.channel):
                    again = KILL_SOON
                elif not reply.ok:
                    attempt = ticket.call.attempt
                    await self._conclude(switch, command.channel, attempt.core if attempt else "", ticket)
            except Disconnected:
                pass
            await sleep(self._board.clock, again)
        return (missing(command.channel),)

    def _to_come(self, switch: Switch, channel: str) -> bool:
        """Whether the switch may be about to make this channel: it was told to, and has said nothing of it yet."""
        return channel not in self._seen and self._dialling.written(channel) == switch.epoch

    async def _compare(self, switch: Switch, command: Watch, ticket: Ticket) -> None:
        """Record what was missed of the channel; its end, if it is gone."""
        channel = command.channel
        dump = await self._board.dump(switch, channel)
        if dump is None:
            await self._conclude(switch, channel, command.core, ticket)
            return
        self._seen.add(channel)
        attempt = _attempt(ticket, channel)
        for event in translate.from_dump(channel, dump, self._board.config.extra_fs_vars):
            known = attempt is None or (
                attempt.rang_at if isinstance(event, ChannelRang) else attempt.answered_at
            )
            if not known:
                await ticket.record(event)
        if switch.core != command.core:
            await self._rearm(switch, command, dump)

    async def _rearm(self, switch: Switch, command: Watch, dump: Headers) -> None:
        """The channel was carried over to another FreeSWITCH, which knows nothing of its limits."""
        answered = translate.number(dump, "Caller-Channel-Answered-Time")
        elapsed = (translate.now(dump) - answered) // 1_000_000 if answered else 0
        left = max(1, command.backstop - elapsed)
        await switch.api(f"sched_del {command.channel}")
        await switch.api(f"sched_hangup +{left} {command.channel} {command.cause}")

    async def _conclude(self, switch: Switch, channel: str, core: str, ticket: Ticket) -> None:
        """The switch has no such channel: wait for its end event, else record what is known of its end."""
        if channel in self._concluding:
            return  # by another command
        self._concluding.add(channel)
        try:
            await self._conclude_alone(switch, channel, core, ticket)
        finally:
            self._concluding.discard(channel)

    async def _conclude_alone(self, switch: Switch, channel: str, core: str, ticket: Ticket) -> None:
        if await self.end(channel, END_LAG):
            return  # its end is being recorded, and that ends this command
        if (await switch.api(f"uuid_exists {channel}")).text.strip() == "true":
            return  # an originate that was read late
        kept = dialstring.parse_kept((await switch.api(dialstring.kept(channel))).text)
        if kept is None:
            await ticket.record(missing(channel, restarted=switch.core != core))
            return
        await ticket.record(translate.from_kept(channel, kept))
        # only now: what the switch keeps is the only copy
        self._board.aside_do(self._board.forget(switch, channel))


def _attempt(ticket: Ticket, channel: str) -> Attempt | None:
    return next((each for each in ticket.call.attempts if each.channel == channel), None)
