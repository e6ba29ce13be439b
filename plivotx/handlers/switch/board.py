"""The switches as their handlers see them: which there are, waiting for them, asking them about a channel."""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.config import Config
from plivotx.engine import Engine
from plivotx.esl import dialstring, translate
from plivotx.esl.connections import Disconnected, Switch, Waiters
from plivotx.esl.session import Headers
from plivotx.events import ChannelEnded
from plivotx.projections.call import OUTCOME_UNKNOWN, SWITCH_RESTARTED

log = Logger()

END_LAG = 2.0
"""Seconds that the end event of a channel may come later than `uuid_exists` turns false."""
LOOK_AGAIN = 60.0
"""Seconds after which a channel of which nothing is heard is looked at, in case an event was lost."""


class Board:
    """The switches, the engine that facts go to, and what several handlers know of channels."""

    def __init__(self, switches: Mapping[str, Switch], clock: IReactorTime, config: Config) -> None:
        self.switches = dict(switches)
        self.clock = clock
        self.config = config
        self.watched: set[str] = set()
        """Channels that `Watch` is running for."""
        self.calls: Counter[str] = Counter()
        """How many these are, by their switch."""
        self.coming = Waiters()
        """They go on when whichever switch is connected first."""
        self._engine: Engine | None = None
        self._aside: set[Deferred[None]] = set()

    def attach(self, engine: Engine) -> None:
        """Learn where facts go; before the switches are started."""
        self._engine = engine

    @property
    def engine(self) -> Engine:
        """Where facts go."""
        assert self._engine is not None
        return self._engine

    def stop(self) -> None:
        """Leave off what runs beside the commands."""
        for each in list(self._aside):
            each.cancel()

    def idle(self) -> dict[str, int]:
        """What is held in memory: all zero when no call is open.  For tests and for metrics."""
        return {
            "watched": len(self.watched),
            "on switches": self.calls.total(),
            "aside": len(self._aside),
        }

    def remaining(self, switch: str, when: int) -> float | None:
        """Seconds until the clock of *switch* shows *when*; None if it is not known yet."""
        known = self.switches.get(switch)
        return known.time.remaining(when) if known else None

    def when_known(self, switch: str) -> Deferred[None]:
        """Fires when `remaining` can say something; never for a switch that is not configured."""
        known = self.switches.get(switch)
        return known.time.when_known() if known else Deferred()

    def is_over(self, channel: str) -> bool:
        """Whether the channel is no open call's, or that of an attempt that is over."""
        stream = self.engine.channels.stream(channel)
        call = None if stream is None else self.engine.call(stream)
        attempts = call.attempts if call else ()
        return stream is None or any(each.channel == channel and each.over for each in attempts)

    # -- waiting -----------------------------------------------------------------------------------

    async def wait_up(self, switch: Switch, seconds: float) -> bool:
        """Until the switch is connected or *seconds* have passed; whether it is."""
        if not switch.up:
            await self.wait(switch.coming, seconds)
        return switch.up

    async def until_changed(self, switch: Switch, seconds: float, *others: Deferred[Any]) -> None:
        """Until the connection is lost, *seconds* have passed, or one of *others* fires."""
        await self.wait(switch.changing, seconds, *others)

    async def wait(self, waiters: Waiters, seconds: float, *others: Deferred[Any]) -> None:
        """Until *waiters* are woken, *seconds* have passed, or one of *others* fires."""
        over = waiters.add()
        for each in others:
            each.addCallback(_on_the_way, waiters.wake, over)
        timer = self.clock.callLater(seconds, waiters.wake, over)
        try:
            await over
        finally:
            if timer.active():
                timer.cancel()

    # -- asking a switch ---------------------------------------------------------------------------

    async def dump(self, switch: Switch, channel: str) -> Headers | None:
        """Everything the switch knows of a channel; None if it has no such channel."""
        reply = await switch.api(f"uuid_dump {channel} json")
        if not reply.text.startswith("{"):
            return None
        try:
            dump = msgspec.json.decode(reply.text, type=Headers)
        except msgspec.DecodeError:
            log.error("uuid_dump of {channel} is no JSON", channel=channel)
            return {}
        if translate.now(dump):
            switch.time.observe(translate.now(dump))
        return dump

    async def kill(self, switch: Switch, channel: str) -> None:
        """Hang up a channel that no command is about."""
        await switch.api(f"uuid_kill {channel} NORMAL_CLEARING")

    async def forget(self, switch: Switch, channel: str) -> None:
        """Delete the line that an ended channel left on the switch; its end is on record."""
        await switch.api(dialstring.forget(channel))

    def aside_do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that no command waits for; a lost connection ends it, and Watch sees to the rest."""
        task = Deferred.fromCoroutine(work)
        if task.called:
            task.addErrback(_lost)
            return
        self._aside.add(task)

        def done(result: Any) -> Any:
            self._aside.discard(task)
            return result

        task.addBoth(done)
        task.addErrback(_lost)


def missing(channel: str, *, restarted: bool = False) -> ChannelEnded:
    """The end of a channel of which no trace is left."""
    if restarted:
        return ChannelEnded(channel=channel, cause=SWITCH_RESTARTED, found="restart")
    return ChannelEnded(channel=channel, cause=OUTCOME_UNKNOWN, found="missing")


def _on_the_way(value: Any, tell: Callable[[Any], None], whom: Any) -> Any:
    """Tell somebody that it came, and pass it on."""
    tell(whom)
    return value


def _lost(failure: Failure) -> None:
    if not failure.check(Disconnected, CancelledError):
        log.failure("work on a switch failed", failure)
