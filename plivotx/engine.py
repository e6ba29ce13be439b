"""Record, project, ask what is due, handle: the one circle that every call goes round.

After each event of a call every policy is asked what is due *now*, and the answer is compared by key
with what is running.  What is new is started; what is no longer due and was only waiting is forgotten;
what has been sent is never cancelled, its outcome is recorded.  At start the open calls are loaded and
the same question is asked, so there is no recovery mode.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.commands import Command, Decide
from plivotx.events import CallbackRenewed, CallRequested, Event, HangupRequested
from plivotx.log.interface import Conflict, Log, Position, Recorded, Refused, Unreadable, Unwritable
from plivotx.policies import Policy
from plivotx.projections.call import Call, evolve
from plivotx.projections.channels import Channels
from plivotx.projections.gateways import Gateways
from plivotx.waiting import sleep

MAX_DECISIONS = 1100
"""In one batch; more mean that policies contradict each other.  A document may have a thousand verbs that do nothing."""
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 30.0
"""Seconds before what failed is tried again."""
LOG_BACKOFF = 1.0
"""The longest of these if it was the log that failed: a limit may be waiting to be recorded."""
READ_AT_ONCE = 500
"""Open calls that are read by one query at the start."""
ASKING = 5
"""How often it is tried to record what a client asks of a call that goes on meanwhile."""


class NoSuchCall(Exception):
    """No call of this name is on record."""


class NothingToHangUp(Exception):
    """The call has ended, or goes on without the channel that is meant."""


class NothingToRenew(Exception):
    """No callback that was given up is meant."""


class Ticket:
    """A handler's hold on the engine while it works at one command."""

    __slots__ = ("_engine", "_live", "_sent", "_unwanted", "_work")

    def __init__(self, engine: "Engine", live: "_Live") -> None:
        self._engine = engine
        self._live = live
        self._unwanted = False
        self._sent = 0
        self._work: Deferred[None] | None = None

    def attach(self, work: Deferred[None]) -> None:
        """Learn what to cancel; the command may have ceased to be due while it was being started."""
        self._work = work
        if self._unwanted:
            self.forget()

    @property
    def forgotten(self) -> bool:
        """Whether the command has ceased to be due."""
        return self._unwanted

    @property
    def call(self) -> Call:
        """The call as it is now."""
        return self._live.call

    async def record(self, *events: Event) -> None:
        """Append outcome events now; returns when the call's state holds them.

        A decision is refused with `Conflict` if the call has moved on meanwhile.
        """
        await self._engine.record(self._live, events)

    @contextmanager
    def sent(self, *, last: bool = False) -> Iterator[None]:
        """Inside, the world is being touched: the engine does not cancel, whatever happens to the call.

        If the command has ceased to be due meanwhile, what follows is not done any more; *last* says
        that nothing follows but the outcome, which is recorded all the same.
        """
        self._sent += 1
        try:
            yield
        finally:
            self._sent -= 1
        if self._unwanted and not self._sent and not last:
            raise CancelledError

    def forget(self) -> None:
        """The command is no longer due: cancel it, or have it end once what was sent is done with."""
        self._unwanted = True
        if not self._sent and self._work is not None:
            self._work.cancel()


_Asked = TypeVar("_Asked", bound=Event)

Handler = Callable[[Any, Ticket], Awaitable[Sequence[Event]]]
"""Does one kind of command.  What it returns is recorded; it may record on the way as well."""


class Due:
    """What is due for a call in one state."""

    __slots__ = ("commands", "decision")

    def __init__(self) -> None:
        self.commands: dict[tuple[str, ...], Command] = {}
        """What is to be done, by key."""
        self.decision: Event | None = None
        """The first of what is to be decided."""


class _Live:
    """One open call in memory."""

    __slots__ = (
        "asked",
        "call",
        "deciding",
        "due",
        "failures",
        "held",
        "running",
        "settled",
        "waiters",
        "writing",
    )

    def __init__(self, call: Call) -> None:
        self.call = call
        self.running: dict[tuple[str, ...], Ticket] = {}
        self.failures: dict[tuple[str, ...], int] = {}
        self.held: dict[tuple[str, ...], IDelayedCall] = {}
        self.waiters: list[tuple[int, Deferred[None]]] = []
        self.deciding = 0
        """Version that the call will have once the decisions are in the log that are on their way there."""
        self.writing = 0
        """How many appends are on their way to the log and back: a decision made meanwhile would be refused."""
        self.due = Due()
        """What is due, as of `asked`."""
        self.asked: Call | None = None
        self.settled: Call | None = None
        """The state for which all that is due has been seen to: no need to look again."""

    def reached(self, version: int) -> Deferred[None]:
        """Fires when the state holds *version* events."""
        if self.call.version >= version or self.call.closed:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self.waiters.append((version, waiter))
        return waiter

    def wake(self) -> None:
        if not self.waiters:
            return
        ready = [each for each in self.waiters if each[0] <= self.call.version or self.call.closed]
        self.waiters = [each for each in self.waiters if each not in ready]
        for _, waiter in ready:
            waiter.callback(None)


class _Loading:
    """A closed call that has been opened again, while it is read."""

    def __init__(self) -> None:
        self.arrived: list[Recorded] = []
        """What was delivered meanwhile."""
        self.work: Deferred[None] | None = None


class Engine:
    """Runs the circle for all open calls."""

    log_lines = Logger()

    def __init__(
        self,
        log: Log,
        policies: Sequence[Policy],
        handlers: Mapping[type[Command], Handler],
        clock: IReactorTime,
    ) -> None:
        self._log = log
        self._policies = tuple(policies)
        self._handlers = dict(handlers)
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._loading: dict[str, _Loading] = {}
        self._stop_following: Callable[[], None] | None = None
        self.channels = Channels()
        self.gateways = Gateways()
        self.running = False

    # -- in and out --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the open calls, then follow the log and ask of each call what is due."""
        position, streams = await self._log.open_streams()
        for first in range(0, len(streams), READ_AT_ONCE):
            read = await self._log.read_several(streams[first : first + READ_AT_ONCE])
            for stream, events in read.items():
                self._take(stream, events)
        self.running = True
        self._follow(position)
        for live in list(self._live.values()):
            self._ask(live)

    def stop(self) -> None:
        """Forget everything that runs or waits; nothing is recorded by it."""
        self.running = False
        if self._stop_following:
            self._stop_following()
        for live in self._live.values():
            self._drop(live)
        self._live.clear()
        loading, self._loading = self._loading, {}
        for each in loading.values():
            if each.work is not None:
                each.work.cancel()

    def call(self, stream: str) -> Call | None:
        """The state of an open call."""
        live = self._live.get(stream)
        return live.call if live else None

    def request(self, event: CallRequested) -> Deferred[int]:
        """Record a new call; fires once it is durable.  Fails with `Conflict` or `Unwritable`."""
        return self._log.append(event.request_uuid, [event], expected=0)

    async def renew(self, stream: str, key: str = "") -> tuple[str, ...]:
        """Have callbacks sent again that were given up: the one with this *key*, or all of a call.

        Returns their keys once that is durable.  Raises `NoSuchCall`, `NothingToRenew`, `Conflict` (the call
        goes on too fast), `Unreadable` or `Unwritable`.
        """

        def renewed(call: Call) -> Sequence[CallbackRenewed]:
            given_up = [each.what.key for each in call.owed if each.given_up]
            keys = [each for each in given_up if key in ("", each)]
            if not keys:
                raise NothingToRenew(_nothing_to_renew(key, given_up))
            return [
                CallbackRenewed(key=each, renewal=call.renewals + 1, live=not call.ended) for each in keys
            ]

        return tuple(each.key for each in await self._asked(stream, renewed))

    async def hang_up(self, cause: str, *, stream: str = "", channel: str = "") -> None:
        """Have a call ended: the one with this *stream*, or the one whose channel *channel* is up.

        Returns once that is durable, however fast the call goes on.  Raises `NoSuchCall`, `NothingToHangUp`,
        `Unreadable` or `Unwritable`.
        """

        def wanted(call: Call) -> Sequence[HangupRequested]:
            if call.ended or (channel and (call.up is None or call.up.channel != channel)):
                raise NothingToHangUp(f"there is nothing to hang up of call {call.uuid!r}")
            return [] if call.hangup else [HangupRequested(cause=cause)]

        await self._asked(stream or self.channels.stream(channel) or "", wanted, insist=True)

    async def _asked(
        self, stream: str, wanted: Callable[[Call], Sequence[_Asked]], *, insist: bool = False
    ) -> Sequence[_Asked]:
        """Record the decisions that *wanted* makes of a call as it is now, which may be closed.

        With *insist* they are such as do no harm to a call that has gone on, and the last try expects nothing.
        """
        for number in range(1, ASKING + 1):
            # What is in memory is newer than what can be read while a script goes from verb to verb.
            call = None if number > 1 else self.call(stream)
            if call is None:
                for recorded in await self._log.read(stream):
                    call = evolve(call, recorded.event)
            if call is None:
                raise NoSuchCall(f"there is no call {stream!r}")
            decisions = wanted(call)
            expected = None if insist and number == ASKING else call.version
            try:
                if decisions:
                    await self._log.append(stream, decisions, expected=expected)
            except Conflict:
                continue
            return decisions
        raise Conflict(f"call {stream!r} went on too fast to record what was asked of it")

    def tell(self, channel: str, event: Event) -> Deferred[None]:
        """Record a fact about a channel; one that belongs to no open call is dropped."""
        live = self._live.get(self.channels.stream(channel) or "")
        if live is None:
            return succeed(None)
        return self._append(live, (event,)).addErrback(self._untold, live)

    def _untold(self, failure: Failure, live: _Live) -> Failure:
        if self._live.get(live.call.uuid) is live:
            self._ask(live)  # decisions have waited for it
        return failure

    def idle(self) -> dict[str, int]:
        """What is held in memory: all zero when no call is open.  For tests and for metrics."""
        lives = self._live.values()
        return {
            "calls": len(self._live) + len(self._loading),
            "channels": len(self.channels),
            "running": sum(len(each.running) for each in lives),
            "held": sum(len(each.held) for each in lives),
            "waiters": sum(len(each.waiters) for each in lives),
        }

    async def record(self, live: _Live, events: Sequence[Event]) -> None:
        """Append *events* of one call and wait until its state holds them.

        What is decided because of them goes with them.  Decisions are appended with the expected version and fail with `Conflict`; facts are tried
        again until the log takes them, for what the world did has happened and is not to be redone.
        """
        if live.call.closed or not events:
            return
        decisions = not all(each.fact for each in events)
        failures = 0
        while True:
            try:
                expected = live.call.version if decisions else None
                await self._append(live, events, expected)
            except Unwritable as error:
                if decisions or not self.running:
                    raise
                failures += 1
                if failures == 1:
                    self._unwritten(live, error)
                self._ask(live)  # what came meanwhile has waited for it
                await sleep(self._clock, _backoff(failures, LOG_BACKOFF))
                continue
            return

    def _append(self, live: _Live, events: Sequence[Event], expected: int | None = None) -> Deferred[None]:
        """Append *events* of one call, and with them what is decided once it has them.

        Fires once its state holds them.  If something came in between, they go alone, and the decisions are
        made anew.
        """
        decisions = self._decisions(live, events)
        if not decisions:
            return self._write(live, events, expected)

        def alone(failure: Failure) -> Deferred[None]:
            failure.trap(Refused)
            return self._write(live, events, expected)

        return self._write(live, events, live.call.version, decisions).addErrback(alone)

    def _write(
        self, live: _Live, events: Sequence[Event], expected: int | None, decisions: Sequence[Event] = ()
    ) -> Deferred[None]:
        """Append *events* and *decisions* in one go; fires once the call's state holds them."""

        def over(result: Any) -> Any:
            live.writing -= 1
            if decisions:
                live.deciding = 0
                if not isinstance(result, Failure):
                    self._complain(live, decisions)
            return result

        live.writing += 1
        if decisions:
            events = (*events, *decisions)
            live.deciding = live.call.version + len(events)
        return self._log.append(live.call.uuid, events, expected).addCallback(live.reached).addBoth(over)

    def _complain(self, live: _Live, decisions: Sequence[Event]) -> None:
        for each in decisions:
            if each.complaint:
                self.log_lines.warn("call {call}: {complaint}", call=live.call.uuid, complaint=each.complaint)

    # -- the circle --------------------------------------------------------------------------------

    def _follow(self, after: Position) -> None:
        self._stop_following = self._log.follow(self._deliver, self._reset, after)

    def _reset(self, why: str) -> None:
        """The log lost its tail: what is in memory may never have happened.  Load it anew."""
        self.log_lines.error("the log lost its tail ({why}); loading it anew", why=why)
        self.stop()
        self.channels = Channels()
        starting = Deferred.fromCoroutine(self.start())
        starting.addErrback(lambda failure: self.log_lines.failure("loading the log failed", failure))

    def _deliver(self, recorded: Recorded) -> None:
        loading = self._loading.get(recorded.stream)
        if loading is not None:
            loading.arrived.append(recorded)
            return
        live = self._apply(recorded)
        if live is not None:
            self._changed(recorded.stream, live)
        elif recorded.event.opens and recorded.stream not in self._live:
            self._load(recorded.stream)

    def _changed(self, stream: str, live: _Live) -> None:
        live.wake()
        if live.call.version >= live.deciding:  # before, it is between decisions of one batch, or refused
            self._ask(live)
        if live.call.closed:
            self._drop(live)
            self._live.pop(stream, None)

    def _load(self, stream: str) -> None:
        """A closed call was opened again: read what it was."""
        loading = self._loading[stream] = _Loading()
        loading.work = Deferred.fromCoroutine(self._load_it(stream, loading))
        loading.work.addErrback(self._unhandled)

    async def _load_it(self, stream: str, loading: _Loading) -> None:
        failures = 0
        while True:
            try:
                read = await self._log.read(stream)
                break
            except Unreadable as error:
                self.log_lines.warn("call {call} cannot be read: {error}", call=stream, error=error)
                failures += 1
                await sleep(self._clock, _backoff(failures, LONGEST_BACKOFF))
        del self._loading[stream]
        self._take(stream, (each.event for each in read))
        for recorded in loading.arrived:
            self._apply(recorded)
        live = self._live.get(stream)
        if live is not None:
            self._changed(stream, live)

    def _take(self, stream: str, events: Iterable[Event]) -> None:
        """Take in a call that is not in memory; this says nothing of how the gateways are doing now."""
        call: Call | None = None
        for event in events:
            call = evolve(call, event)
            if call is not None:
                self.channels.apply(stream, event)
        if call is not None:
            self._live[stream] = _Live(call)

    def _apply(self, recorded: Recorded) -> _Live | None:
        """Take in what has just happened."""
        live = self._live.get(recorded.stream)
        if live is None:
            call = evolve(None, recorded.event)
            if call is None:
                return None
            live = self._live[recorded.stream] = _Live(call)
        elif recorded.version <= live.call.version:
            return None  # read at the start and followed as well
        else:
            live.call = evolve(live.call, recorded.event) or live.call
        self.channels.apply(recorded.stream, recorded.event)
        self.gateways.apply(live.call, recorded.event, self._clock.seconds())
        return live

    def _drop(self, live: _Live) -> None:
        for ticket in list(live.running.values()):
            ticket.forget()
        for held in live.held.values():
            held.cancel()
        live.held.clear()

    def _ask(self, live: _Live) -> None:
        call = live.call
        if live.settled is call or not self.running:
            return
        due = self._due_now(live)
        commands = due.commands
        for key in [each for each in live.running if each not in commands]:
            live.running[key].forget()
        if live.failures:  # it was tried again, or waits to be
            for key in [each for each in live.held if each not in commands and each != _DECIDE]:
                live.held.pop(key).cancel()
            for key in [each for each in live.failures if each not in commands and each != _DECIDE]:
                del live.failures[key]
        for key, command in commands.items():
            if key not in live.running and key not in live.held:
                self._start(live, key, command)
        self._decide(live)
        if due.decision is None:
            live.settled = call

    def _due_now(self, live: _Live) -> Due:
        """Everything due.  The same state gives the same answer, so it is asked once for each."""
        if live.asked is not live.call:
            # Equal is what was foreseen when decisions were made that are on record now.
            if live.asked != live.call:
                live.due = self._due(live.call)
            live.asked = live.call
        return live.due

    def _due(self, call: Call, *, deciding: bool = False) -> Due:
        """What is due, or with *deciding* only the first decision if there is one.

        A policy that raises is logged, and the others are still asked.
        """
        due = Due()
        for policy in self._policies:
            try:
                for each in policy(call):
                    if not isinstance(each, Decide):
                        due.commands[each.key] = each
                    elif due.decision is None:
                        due.decision = each.event
                        if deciding:
                            return due
            except Exception:
                self.log_lines.failure(
                    "policy {policy} raised for call {call}", policy=policy, call=call.uuid
                )
        return due

    def _start(self, live: _Live, key: tuple[str, ...], command: Command) -> None:
        ticket = live.running[key] = Ticket(self, live)
        ticket.attach(Deferred.fromCoroutine(self._handle(live, key, command, ticket)))

    def _unhandled(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log_lines.failure("handling a command broke", failure)

    async def _handle(self, live: _Live, key: tuple[str, ...], command: Command, ticket: Ticket) -> None:
        """Do it and ask what is due then.  Nothing is raised: there may be forty thousand of these."""
        longest, refused = LONGEST_BACKOFF, False
        try:
            outcome = await self._handlers[type(command)](command, ticket)
            await self.record(live, outcome)
        except CancelledError:
            pass  # it ceased to be due; or the cancellation was not ours, and it counts as having changed nothing
        except Refused:
            refused = True  # the call has moved on; what is due now is asked below
        except Unwritable as error:
            longest, refused = LOG_BACKOFF, True
            self._unwritten(live, error)
        except Exception:
            self.log_lines.failure("{command} failed", command=command)
        finally:
            if live.running.get(key) is ticket:
                del live.running[key]
        if not live.call.closed and self.running:
            try:
                still_due = key in self._due_now(live).commands
                if still_due and not ticket.forgotten:
                    self._hold(live, key, longest)  # it changed nothing: wait longer each time, never spin
                elif still_due:
                    live.settled = None  # it is due anew, and was left alone because this one ran on
                if still_due or refused or not ticket.forgotten:
                    self._ask(live)  # what is to be decided has waited for what was refused
            except Exception:
                self.log_lines.failure("asking what is due after {command} broke", command=command)

    def _unwritten(self, live: _Live, error: Unwritable) -> None:
        if self.running:  # else it was closed as it should be, and the next start asks again
            self.log_lines.warn(
                "the log refuses events of call {call}: {error}", call=live.call.uuid, error=error
            )

    def _hold(self, live: _Live, key: tuple[str, ...], longest: float) -> None:
        failures = live.failures[key] = live.failures.get(key, 0) + 1

        def again() -> None:
            live.held.pop(key, None)
            live.settled = None
            self._ask(live)

        live.held[key] = self._clock.callLater(_backoff(failures, longest), again)

    # -- decisions ---------------------------------------------------------------------------------

    def _decide(self, live: _Live) -> None:
        """Append, in one batch, all decisions that follow from the call's state and from each other."""
        decisions = self._decisions(live)
        if decisions:
            expected = live.call.version
            writing = self._write(live, (), expected, decisions)
            writing.addCallbacks(
                self._decided, self._undecided, callbackArgs=(live,), errbackArgs=(live, expected)
            )
            writing.addErrback(self._unhandled)

    def _decided(self, result: None, live: _Live) -> None:
        del result
        live.failures.pop(_DECIDE, None)

    def _undecided(self, failure: Failure, live: _Live, expected: int) -> None:
        error = failure.value
        if isinstance(error, Unwritable):
            self._unwritten(live, error)
        else:
            failure.trap(Refused)
        if self.running and not live.call.closed:
            # If a fact came in between, its delivery asks again, unless it was delivered already.
            if isinstance(error, Unwritable) or live.call.version == expected:
                self._hold(live, _DECIDE, LOG_BACKOFF)
            live.settled = None
            self._ask(live)

    def _decisions(self, live: _Live, first: Sequence[Event] = ()) -> list[Event]:
        """What is to be decided once the call has the events *first*: all that follows from them, and from each other.

        Nothing while something else of the call is on its way into the log, for it would be refused.
        """
        decided: list[Event] = []
        if live.writing or _DECIDE in live.held or live.call.closed or not self.running:
            return decided
        call, due = live.call, None if first else self._due_now(live)
        for event in first:
            call = evolve(call, event) or call
        for _ in range(MAX_DECISIONS):
            due = due or self._due(call, deciding=True)
            if due.decision is None:
                live.asked, live.due = call, due  # it will be so once they are on record
                return decided
            decided.append(due.decision)
            call, due = evolve(call, due.decision) or call, None
        self.log_lines.error(
            "policies do not come to rest for call {call}: {decided}", call=call.uuid, decided=decided[-3:]
        )
        return decided[:1]


_DECIDE = ("decide",)


def _nothing_to_renew(key: str, given_up: Sequence[str]) -> str:
    if not given_up:
        return "There is nothing to send again: no callback of the call was given up"
    shown = key if len(key) <= 80 else key[:77] + "..."
    return f"Key is not Valid: {shown!a} is no callback that was given up (there are: {', '.join(given_up)})"


def _backoff(failures: int, longest: float) -> float:
    return min(longest, FIRST_BACKOFF * float(2 ** min(failures - 1, 20)))
