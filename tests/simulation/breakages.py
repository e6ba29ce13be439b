"""Remove one mechanism after the other, and see that the simulation notices.

A check that nothing can fail proves nothing.  Each breakage is named and described in
docs/simulation.md; `script/simulate BREAKAGES=1` removes each and plays seeds until one fails.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from plivotx import engine, server
from plivotx.esl import connections, dialstring
from plivotx.events import AttemptStarted, CallbackDelivered, CallbackRenewed, StepStarted
from plivotx.handlers import http
from plivotx.handlers.switch import board, listening, steps, watching
from plivotx.log.interface import Refused
from plivotx.log.memory import MemoryLog
from plivotx.projections.call import Attempt, evolve
from tests.simulation import world
from tests.simulation.run import play

ENOUGH = 1000
"""Seeds after which a breakage counts as unnoticed."""

Patch = tuple[Any, str, Any]


def _nothing(*_: Any, **__: Any) -> None:
    return None


async def _nothing_async(*_: Any, **__: Any) -> tuple[()]:
    return ()


def _accept_before_it_is_durable() -> list[Patch]:
    def request(self: engine.Engine, event: Any) -> Deferred[int]:
        self._log.append(event.request_uuid, [event], expected=0).addErrback(lambda _: None)
        return succeed(1)

    return [(engine.Engine, "request", request)]


def _dial_before_it_is_recorded() -> list[Patch]:
    record = engine.Ticket.record

    async def hasty(self: engine.Ticket, *events: Any) -> None:
        if isinstance(events[0], AttemptStarted):
            Deferred.fromCoroutine(record(self, *events)).addErrback(lambda _: None)
            return
        await record(self, *events)

    return [(engine.Ticket, "record", hasty)]


def _load_nothing_at_the_start() -> list[Patch]:
    def none(self: MemoryLog) -> Any:
        return succeed((str(self.disk.end), ()))

    return [(MemoryLog, "open_streams", none)]


def _forget_facts_that_were_overtaken() -> list[Patch]:
    def append(self: engine.Engine, live: Any, events: Any, expected: Any = None) -> Deferred[None]:
        decisions = self._decisions(live, events)
        if not decisions:
            return self._write(live, events, expected)
        writing = self._write(live, events, live.call.version, decisions)
        return writing.addErrback(lambda failure: failure.trap(Refused) and None)

    return [(engine.Engine, "_append", append)]


def _count_limits_on_the_wall_clock() -> list[Patch]:
    made = world.SimulatedWorld.__init__
    worlds: list[world.SimulatedWorld] = []

    def make(self: world.SimulatedWorld, seed: int) -> None:
        made(self, seed)
        worlds[:] = [self]

    def remaining(self: Any, name: str, when: int) -> float:
        return when / 1e6 - worlds[0].wall()

    return [(world.SimulatedWorld, "__init__", make), (board.Board, "remaining", remaining)]


def _never_look_again() -> list[Patch]:
    return [(watching, "LOOK_AGAIN", 1e9), (steps, "LOOK_AGAIN", 1e9)]


def _no_backstops() -> list[Patch]:
    hang_up_after = dialstring._hang_up_after

    def never(seconds: int, cause: str) -> str:
        return hang_up_after(seconds + 100_000, cause)

    return [(dialstring, "_hang_up_after", never)]


def _send_every_step_again() -> list[Patch]:
    async def absent(*_: Any) -> str:
        return "absent"

    return [(steps.Steps, "_find_step", absent)]


def _take_it_as_told() -> list[Patch]:
    async def told(self: Any, command: Any, ticket: Any) -> Any:
        return (CallbackDelivered(key=command.delivery, attempt=command.attempt, status=200),)

    return [(http.Web, "post_callback", told)]


def _step_before_it_is_recorded() -> list[Patch]:
    record = engine.Ticket.record

    async def hasty(self: engine.Ticket, *events: Any) -> None:
        if not isinstance(events[0], StepStarted):
            await record(self, *events)

    return [(engine.Ticket, "record", hasty)]


def _renew(*, durable: bool, expecting: bool) -> Callable[[], list[Patch]]:
    async def renew(self: engine.Engine, stream: str, key: str = "") -> tuple[str, ...]:
        call: Any = None
        for recorded in await self._log.read(stream):
            call = evolve(call, recorded.event)
        keys = [each.what.key for each in call.owed if each.given_up and key in ("", each.what.key)]
        if not keys:
            raise engine.NothingToRenew
        asked = [CallbackRenewed(key=each, renewal=call.renewals + 1, live=not call.ended) for each in keys]
        appended = self._log.append(stream, asked, expected=call.version if expecting else None)
        if durable:
            await appended
        else:
            appended.addErrback(lambda _: None)
        return tuple(keys)

    return lambda: [(engine.Engine, "renew", renew)]


def _policy_without(name: str) -> Callable[[], list[Patch]]:
    def patches() -> list[Patch]:
        return [(server, name, lambda *_: lambda _call: ())]

    return patches


def _no_limit_of_the_ringing() -> list[Patch]:
    keep_time = server.keep_time

    def made(config: Any) -> Any:
        policy = keep_time(config)

        def due(call: Any) -> Iterator[Any]:
            return (each for each in policy(call) if getattr(each, "limit", "") != "GatewayTimeouts")

        return due

    return [(server, "keep_time", made)]


def _blind_to_hangups(name: str) -> Callable[[], list[Patch]]:
    """A policy that does not see that a client asked for the end."""

    def patches() -> list[Patch]:
        real = getattr(server, name)

        def made(config: Any) -> Any:
            policy = real(config)
            return lambda call: policy(msgspec.structs.replace(call, hangup=None))

        return [(server, name, made)]

    return patches


def _try_on_after_it_rang() -> list[Patch]:
    return [(Attempt, "progressed", False)]


def _do_not_wait_for_the_end() -> list[Patch]:
    return [(Attempt, "over", True)]


BREAKAGES: dict[str, tuple[str, Callable[[], list[Patch]]]] = {
    "accept-early": ("Success is answered before the request is durable", _accept_before_it_is_durable),
    "dial-early": (
        "an originate is written before its AttemptStarted is durable",
        _dial_before_it_is_recorded,
    ),
    "load-nothing": ("the open calls are not loaded at the start", _load_nothing_at_the_start),
    "no-limits": ("no limit is ever reached: only the switch's own are left", _policy_without("keep_time")),
    "no-backstops": ("the switch is given no limits of its own", _no_backstops),
    "wall-clock": ("limits are counted on the wall clock", _count_limits_on_the_wall_clock),
    "no-compare": (
        "after a reconnect the channels are not looked at",
        lambda: [(watching.Watching, "_compare", _nothing_async)],
    ),
    "never-look-again": ("an event lost on a healthy connection is never missed", _never_look_again),
    "no-kept-line": (
        "what a channel left behind on the switch is not read",
        lambda: [(dialstring, "parse_kept", _nothing)],
    ),
    "keep-lines": (
        "what ended channels left behind is never deleted",
        lambda: [(board.Board, "forget", _nothing_async)],
    ),
    "no-orphans": (
        "channels of ours without an open call are left alone",
        lambda: [(board.Board, "kill", _nothing_async)],
    ),
    "no-rearm": (
        "a channel carried over to a restarted switch gets no new limit",
        lambda: [(watching.Watching, "_rearm", _nothing_async)],
    ),
    "facts-dropped": (
        "a fact that could not be written is forgotten",
        lambda: [(listening.Listening, "_untold", _nothing)],
    ),
    "facts-overtaken": (
        "a fact that went into the log with decisions is forgotten if those are refused",
        _forget_facts_that_were_overtaken,
    ),
    "no-stall-watch": (
        "a connection that is there and dead is not noticed",
        lambda: [(connections.Switch, "_watch", _nothing)],
    ),
    "end-at-once": (
        "a channel that is gone is concluded without waiting for its end event, nor what it left",
        lambda: [(watching, "END_LAG", 0.0), (dialstring, "parse_kept", _nothing)],
    ),
    "steps-again": ("after a reconnect every step is sent again", _send_every_step_again),
    "steps-unrecorded": ("the start of a step is not recorded", _step_before_it_is_recorded),
    "callbacks-assumed": ("callbacks are recorded as delivered without being sent", _take_it_as_told),
    "no-ringing-limit": (
        "where early media ends the switch's own time-out nobody limits the ringing",
        _no_limit_of_the_ringing,
    ),
    "dial-on": ("after a client hung up the next gateway is dialled", _blind_to_hangups("dial_out")),
    "deaf-to-hangups": (
        "a channel that is up when a client hangs up is left alone",
        _blind_to_hangups("keep_time"),
    ),
    "after-ringing": ("after a gateway that rang the next one is tried", _try_on_after_it_rang),
    "all-at-once": (
        "the next gateway is tried while the one before it is not over",
        _do_not_wait_for_the_end,
    ),
    "no-callback-policy": ("nothing sees to the callbacks", _policy_without("call_back")),
    "renew-early": (
        "a resend is answered before it is durable",
        _renew(durable=False, expecting=True),
    ),
    "renew-twice": (
        "a resend does not look whether another one came first",
        _renew(durable=True, expecting=False),
    ),
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Inside, the mechanism is missing."""
    before: list[Patch] = []
    try:
        for owner, attribute, replacement in BREAKAGES[name][1]():
            before.append((owner, attribute, getattr(owner, attribute)))
            setattr(owner, attribute, replacement)
        yield
    finally:
        for owner, attribute, original in reversed(before):
            setattr(owner, attribute, original)


def noticed(name: str, enough: int = ENOUGH) -> tuple[int, str] | None:
    """The first seed that fails while the mechanism is missing, and what it complains of."""
    with broken(name):
        for seed in range(enough):
            outcome = play(seed)
            if outcome.complaints:
                return seed, outcome.complaints[0].partition("\n")[0]
    return None


def main() -> int:
    """Try them all; 0 if each was noticed."""
    unnoticed = 0
    for name, (what, _) in BREAKAGES.items():
        found = noticed(name)
        if found is None:
            unnoticed += 1
        print(
            f"{name:<20} {what}\n{'':<20} -> " + (f"seed {found[0]}: {found[1]}" if found else "NOT NOTICED"),
            flush=True,
        )
    print(f"{len(BREAKAGES)} planted, {len(BREAKAGES) - unnoticed} caught")
    return 1 if unnoticed else 0
