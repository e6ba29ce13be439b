"""Drive the switch: dial, watch, run steps, hang up; and turn what it tells into facts.

An originate is written once.  What was missed (a lost connection, a restart of plivotx or of
FreeSWITCH, an event that never came) is found out by asking the switch about the channel; only what is
certain is recorded, and what nobody can know any more is called so.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.commands import ApiStep, HangUp, Originate, Step, StopStep, Watch
from plivotx.config import Config
from plivotx.engine import Engine, Ticket
from plivotx.esl import dialstring, translate
from plivotx.esl.connections import BadCommand, Disconnected, Switch, Waiters
from plivotx.esl.session import Headers, Reply
from plivotx.esl.translate import text
from plivotx.events import (
    AttemptSkipped,
    AttemptStarted,
    CallEnded,
    ChannelEnded,
    ChannelRang,
    Event,
    JobFailed,
    StepEnded,
    StepStarted,
)
from plivotx.log.interface import Unwritable
from plivotx.projections.call import OUTCOME_UNKNOWN, SWITCH_RESTARTED, Attempt
from plivotx.waiting import sleep

log = Logger()

END_LAG = 2.0
"""Seconds that the end event of a channel may come later than `uuid_exists` turns false."""
UNWRITTEN = 10
"""Attempts that are recorded and not yet written to a switch, at most, for a sudden death leaves them in doubt:
nobody was dialled, and nobody can be sure of it."""
LOOK_AGAIN = 60.0
"""Seconds after which a channel of which nothing is heard is looked at, in case an event was lost."""
STEP_LAG = 0.3
"""Seconds by which a step shows on the channel later than it was sent; measured: 0.02."""
PARK_AGAIN = 1.0
"""Seconds after which a channel is looked at that was answered and is not known to be parked."""
KILL_AGAIN = 5.0
"""Seconds after which a channel that was to be hung up is hung up again."""
KILL_SOON = 0.2
"""The same for a channel that the switch has not made yet."""
UNREACHABLE = "NETWORK_OUT_OF_ORDER"
"""Hangup cause of a call that could not be dialled because no switch was connected."""
GRACE = 60.0
"""Seconds beyond the switch's own limits after which a channel must be gone, reachable or not."""


class SwitchHandlers:
    """Does `Originate`, `Watch`, the steps of scripts and `HangUp`, and listens to the switches."""

    def __init__(self, switches: Mapping[str, Switch], clock: IReactorTime, config: Config) -> None:
        self._switches = dict(switches)
        self._clock = clock
        self._config = config
        self._engine: Engine | None = None
        self._gates = {name: DeferredSemaphore(UNWRITTEN) for name in switches}
        self._seen: set[str] = set()  # channels that exist, by their events
        self._unwritten: set[str] = set()  # decided to be dialled, not yet written
        self._called_off: set[str] = set()  # of these, those that are not to be dialled any more
        self._written: dict[str, int] = {}  # channel: epoch of the connection its originate went out on
        self._ends: dict[str, list[Deferred[None]]] = {}
        self._concluding: set[str] = set()  # channels that are gone and whose end is being found out
        self._watched: set[str] = set()  # channels that Watch is running for
        self._calls: Counter[str] = Counter()  # how many these are, by their switch
        self._parked: dict[str, Deferred[None]] = {}  # fires once the channel takes applications
        self._steps: dict[tuple[str, str], Deferred[Headers]] = {}
        self._coming = Waiters()  # for whichever switch is connected first
        self._aside: set[Deferred[None]] = set()
        for switch in self._switches.values():
            switch.on_event = self._event
            switch.on_up = self._up

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
            "seen": len(self._seen),
            "unwritten": len(self._unwritten),
            "called off": len(self._called_off),
            "written": len(self._written),
            "ends": len(self._ends),
            "concluding": len(self._concluding),
            "watched": len(self._watched),
            "on switches": self._calls.total(),
            "parked": len(self._parked),
            "steps": len(self._steps),
            "aside": len(self._aside),
        }

    def remaining(self, switch: str, when: int) -> float | None:
        """Seconds until the clock of *switch* shows *when*; None if it is not known yet."""
        known = self._switches.get(switch)
        return known.time.remaining(when) if known else None

    def when_known(self, switch: str) -> Deferred[None]:
        """Fires when `remaining` can say something; never for a switch that is not configured."""
        known = self._switches.get(switch)
        return known.time.when_known() if known else Deferred()

    # -- commands ----------------------------------------------------------------------------------

    async def originate(self, command: Originate, ticket: Ticket) -> Sequence[Event]:
        """Record that the attempt starts, then write the originate command, once."""
        passed_over = self._passed_over(command, ticket)
        if passed_over:
            return (passed_over,)
        switch = await self._turn()
        if switch is None:
            return (CallEnded(cause=UNREACHABLE),)
        channel = command.channel
        started = AttemptStarted(
            number=command.number,
            gateway=command.gateway.prefix,
            channel=channel,
            switch=switch.name,
            core=switch.core,
        )
        with ticket.sent():
            self._unwritten.add(channel)
            try:
                line = _line(command)
                if isinstance(line, JobFailed):
                    await ticket.record(started, line)
                    return ()
                await ticket.record(started)
                connected = await self._wait_up(switch, self._config.dial_patience)
                if channel in self._called_off:
                    return ()
                if not connected:
                    await ticket.record(JobFailed(channel=channel, cause=UNREACHABLE, dialled=False))
                    return ()
                taken = switch.bgapi(line, job=channel)
                self._written[channel] = switch.epoch
            finally:
                self._unwritten.discard(channel)
                self._called_off.discard(channel)
                self._next_turn(switch)
            try:
                reply = await taken
            except Disconnected:
                return ()  # it may have been read all the same: Watch finds out
            if not reply.ok:
                await ticket.record(JobFailed(channel=channel, cause=reply.error or reply.text))
        return ()

    def _passed_over(self, command: Originate, ticket: Ticket) -> AttemptSkipped | None:
        """The decision not to try a gateway that keeps failing, if there is another one behind it."""
        cooling = self._cooling(command.gateway.prefix)
        others = ticket.call.gateways[command.number :]
        if not cooling or all(self._cooling(each.prefix) for each in others):
            return None
        log.info("call {call}: {why}", call=command.stream, why=cooling)
        return AttemptSkipped(number=command.number, gateway=command.gateway.prefix, why=cooling)

    def _cooling(self, prefix: str) -> str:
        """Why a gateway is to be left alone now; empty if it is not."""
        rules = self._config.rules(prefix)
        failures, since = self.engine.gateways.failures(prefix)
        left = since + rules.cool_down - self._clock.seconds()
        if not rules.cool_down or failures < rules.cool_down_after or left <= 0:
            return ""
        return f"{prefix} failed {failures} times in a row and is passed over for another {left:.0f} s"

    async def watch(self, command: Watch, ticket: Ticket) -> Sequence[Event]:
        """Look at the channel after each new connection, and now and then besides."""
        switch = self._switches.get(command.switch)
        if switch is None:
            log.error(
                "call {call} is on switch {name}, which is not configured",
                call=command.stream,
                name=command.switch,
            )
            return (_missing(command.channel),)
        patience = command.backstop + self._ring_limit(ticket) + GRACE
        # Spread, so that ten thousand channels are not for ever looked at in the same moment.
        again = LOOK_AGAIN * (0.75 + crc32(command.channel.encode()) / 0xFFFFFFFF / 2)
        looked_at = self._written.get(command.channel)  # nothing was missed since it was dialled
        self._watched.add(command.channel)
        self._calls[switch.name] += 1
        try:
            while True:
                if not await self._wait_up(switch, patience):
                    log.error(
                        "switch {name} is gone for good; giving up {channel}",
                        name=switch.name,
                        channel=command.channel,
                    )
                    return (_missing(command.channel),)
                try:
                    epoch = switch.epoch
                    if command.channel not in self._unwritten and epoch not in (
                        looked_at,
                        self._written.get(command.channel),
                    ):
                        await self._compare(switch, command, ticket)
                        looked_at = epoch
                        if switch.epoch != epoch:
                            continue  # what was found took so long to be recorded that it is old
                    await self._until_changed(switch, again)
                    if switch.epoch == epoch and switch.up:
                        looked_at = None
                        self._forget_written(command.channel)
                except Disconnected:
                    continue
        finally:
            self._written.pop(command.channel, None)
            self._seen.discard(command.channel)
            self._watched.discard(command.channel)
            self._calls[switch.name] -= 1
            self._parked.pop(command.channel, None)

    def _forget_written(self, channel: str) -> None:
        """An event may be lost on the very connection: from now on the channel is looked at."""
        self._written.pop(channel, None)

    async def hang_up(self, command: HangUp, ticket: Ticket) -> Sequence[Event]:
        """Kill the channel, again and again, until its end is on record."""
        if command.channel in self._unwritten:
            self._called_off.add(command.channel)
            return (JobFailed(channel=command.channel, cause=command.cause, dialled=False),)
        switch = self._switches.get(command.switch)
        while switch is not None:
            await switch.when_up()
            again = KILL_AGAIN
            try:
                reply = await switch.api(f"uuid_kill {command.channel} {command.cause}")
                if not reply.ok and self._to_come(switch, command.channel):
                    again = KILL_SOON
                elif not reply.ok:
                    attempt = ticket.call.attempt
                    await self._conclude(switch, command.channel, attempt.core if attempt else "", ticket)
            except Disconnected:
                pass
            await sleep(self._clock, again)
        return (_missing(command.channel),)

    def _to_come(self, switch: Switch, channel: str) -> bool:
        """Whether the switch may be about to make this channel: it was told to, and has said nothing of it yet."""
        return channel not in self._seen and self._written.get(channel) == switch.epoch

    async def step(self, command: Step, ticket: Ticket) -> Sequence[Event]:
        """Send the step if the channel does not carry its mark, then wait for its end."""
        switch = self._switches.get(command.switch)
        if switch is None:  # not configured any more; Watch tells the operator
            return (_missing(command.channel),)
        name = (command.channel, command.step)
        sent_on = ""  # Core-UUID of the FreeSWITCH that has it
        if not command.started:
            await switch.when_up()
            with ticket.sent():
                await ticket.record(StepStarted(key=command.step, digest=command.digest))
        try:
            fresh = not command.started
            while True:
                await switch.when_up()
                ended = self._steps.setdefault(name, Deferred())
                try:
                    if not fresh:
                        found = await self._find_step(switch, command, sent_on)
                        if found == "absent":  # or written by whoever died, and not begun yet
                            await sleep(self._clock, STEP_LAG)
                            found = await self._find_step(switch, command, sent_on)
                        if isinstance(found, StepEnded):
                            return (found,)
                        fresh = found == "absent"
                    if fresh:
                        await self._until_parked(switch, command.channel)
                        fresh = False
                        await self._send_step(switch, command)
                    sent_on = switch.core
                    await self._until_changed(switch, LOOK_AGAIN, ended)
                except Disconnected:
                    continue
                except (BadCommand, dialstring.Unsafe) as error:
                    # the verb's fault; to try again is of no use
                    log.error("step {step} cannot be sent: {error}", step=command.step, error=error)
                    return (StepEnded(key=command.step, failed=str(error)),)
                if ended.called:
                    return (_step_ended(command, ended.result),)  # type: ignore[arg-type]  # called: the event
        finally:
            self._steps.pop(name, None)
            self._leave_parked(command.channel)

    def _leave_parked(self, channel: str) -> None:
        if channel not in self._watched:
            self._parked.pop(channel, None)

    async def _send_step(self, switch: Switch, command: Step) -> None:
        """The variables, then the application, in one go: they arrive in this order."""
        lines = [dialstring.setvar(command.channel, *each) for each in command.variables]
        if not switch.up:
            raise Disconnected("before a step was sent")
        replies = [switch.api(each) for each in lines]
        replies += switch.step(command.channel, command.step, command.app, command.arg)
        for reply in replies:
            await reply  # "no such session": the channel is gone, and Watch concludes that

    async def stop_step(self, command: StopStep, ticket: Ticket) -> Sequence[Event]:
        """Break off what the step runs and wait until the channel is parked: sent earlier, the next one fails.

        A transfer breaks off everything but a recording, which it hangs up with the call: that one is
        broken first, and is over then (driving-calls.md, section 1).
        """
        switch = self._switches.get(command.switch)
        if switch is None:  # not configured any more; Watch tells the operator
            return (_missing(command.channel),)
        absent = False
        while True:
            await switch.when_up()
            try:
                found = await self._find_step(switch, command, "")
                if isinstance(found, StepEnded):
                    return (msgspec.structs.replace(found, stopped=True),)
                if found == "absent":
                    if absent:  # it never got there, or its channel is another one's by now
                        return (StepEnded(key=command.step, stopped=True),)
                    absent = True
                    await sleep(self._clock, STEP_LAG)  # or was written a moment ago
                    continue
                with ticket.sent():
                    ended = await self._break_off(switch, command)
                if ended is not None:
                    return (ended,)
                await sleep(self._clock, STEP_LAG)
            except Disconnected:
                if ticket.forgotten:
                    return ()
                continue

    async def _break_off(self, switch: Switch, command: StopStep) -> StepEnded | None:
        """The end of the step, or None if it is not known to have ended."""
        channel = command.channel
        name = (channel, command.step)
        ended = self._steps.setdefault(name, Deferred())
        try:
            dump = await self._dump(switch, channel)
            if dump is not None and text(dump, "variable_current_application") == "record":
                await switch.api(f"uuid_break {channel}")
                await self._until_changed(switch, END_LAG, ended)
                found = await self._find_step(switch, command, "")
                if isinstance(found, StepEnded):
                    return msgspec.structs.replace(found, stopped=True)
                # else it was not running: a recording ends within a moment
            parked = self._parked[channel] = Deferred()
            await switch.api(f"uuid_transfer {channel} park inline")
            await self._until_changed(switch, END_LAG, parked)
            dump = await self._dump(switch, channel)
            if dump is None or text(dump, "variable_current_application") != "park":
                return None
            self._is_parked(channel)
            return msgspec.structs.replace(_step_ended(command, dump), stopped=True)
        finally:
            self._steps.pop(name, None)
            self._leave_parked(channel)

    async def api_step(self, command: ApiStep, ticket: Ticket) -> Sequence[Event]:
        """Run an API command and keep its answer; again, if the connection was lost before it came."""
        switch = self._switches.get(command.switch)
        if switch is None:
            return (StepEnded(key=command.step, failed=f"switch {command.switch} is not configured"),)
        await switch.when_up()
        if not command.started:
            with ticket.sent():
                await ticket.record(StepStarted(key=command.step, digest=command.digest, kind="api"))
        while True:
            await switch.when_up()
            try:
                with ticket.sent():
                    reply = await switch.api(dialstring.api(command.command, command.words))
            except Disconnected:
                if ticket.forgotten:
                    return ()
                continue
            except (BadCommand, dialstring.Unsafe) as error:
                log.error("step {step} cannot be sent: {error}", step=command.step, error=error)
                return (StepEnded(key=command.step, failed=str(error)),)
            answer = reply.text.strip()
            failed = answer if answer.startswith(("-ERR", "-USAGE")) else ""
            return (StepEnded(key=command.step, result=(("reply", answer),), failed=failed),)

    # -- what a channel says of itself -------------------------------------------------------------

    async def _compare(self, switch: Switch, command: Watch, ticket: Ticket) -> None:
        """Record what was missed of the channel; its end, if it is gone."""
        channel = command.channel
        dump = await self._dump(switch, channel)
        if dump is None:
            await self._conclude(switch, channel, command.core, ticket)
            return
        self._seen.add(channel)
        attempt = _attempt(ticket, channel)
        for event in translate.from_dump(channel, dump, self._config.extra_fs_vars):
            known = attempt is None or (
                attempt.rang_at if isinstance(event, ChannelRang) else attempt.answered_at
            )
            if not known:
                await ticket.record(event)
        if switch.core != command.core:
            await self._rearm(switch, command, dump)

    async def _dump(self, switch: Switch, channel: str) -> Headers | None:
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
        if await self._end(channel, END_LAG):
            return  # its end is being recorded, and that ends this command
        if (await switch.api(f"uuid_exists {channel}")).text.strip() == "true":
            return  # an originate that was read late
        kept = dialstring.parse_kept((await switch.api(dialstring.kept(channel))).text)
        if kept is None:
            await ticket.record(_missing(channel, restarted=switch.core != core))
            return
        await ticket.record(_kept(channel, kept))
        self._aside_do(self._forget(switch, channel))  # only now: what the switch keeps is the only copy

    async def _until_parked(self, switch: Switch, channel: str) -> None:
        """Until the channel waits in park: what is queued before it got there is cut short.

        The answer is told some milliseconds earlier, and an application sent at once ended with
        PLAYBACK ERROR as often as not.
        """
        parked = self._parked.setdefault(channel, Deferred())
        while not parked.called:
            dump = await self._dump(switch, channel)
            if dump is not None and (
                text(dump, "variable_current_application") == "park" or "variable_plivotx_step" in dump
            ):
                self._is_parked(channel)
            else:
                await self._until_changed(switch, PARK_AGAIN, parked)
                if not switch.up:
                    raise Disconnected("while waiting for park")

    def _is_parked(self, channel: str) -> None:
        parked = self._parked.setdefault(channel, Deferred())
        if not parked.called:
            parked.callback(None)

    async def _find_step(self, switch: Switch, command: Step | StopStep, sent_on: str) -> StepEnded | str:
        """Where the step is: ``absent``, ``running``, or ended."""
        dump = await self._dump(switch, command.channel)
        if dump is None or text(dump, "Answer-State") == "hangup":
            return "running"  # the channel is gone: nothing can be sent, and Watch concludes the rest
        if text(dump, "variable_plivotx_done") == command.step:
            return _step_ended(command, dump)
        marked = text(dump, "variable_plivotx_step") == command.step
        return "running" if marked and sent_on in ("", switch.core) else "absent"

    # -- events ------------------------------------------------------------------------------------

    def _event(self, switch: Switch, event: Headers) -> None:
        name = text(event, "Event-Name")
        if name == "BACKGROUND_JOB":
            self._job(switch, event)
            return
        channel = text(event, "Unique-ID")
        if not channel:
            return
        stream = self.engine.channels.stream(channel)
        if name == "CHANNEL_HANGUP_COMPLETE":
            self._seen.discard(channel)
        elif stream is None or self._is_over(stream, channel):
            self._orphan(switch, channel, event)
            return
        elif channel in self._watched:
            self._seen.add(channel)
        if name == "CHANNEL_EXECUTE_COMPLETE":
            self._step_event(channel, event)
        elif name == "CHANNEL_PARK" and channel in self._watched:
            self._is_parked(channel)
        fact = translate.fact(event, self._config.extra_fs_vars)
        if stream is None:
            if text(event, "variable_plivo_app") == "true":
                self._aside_do(self._forget(switch, channel))
        elif fact is not None:
            told = self.engine.tell(channel, fact)
            if isinstance(fact, ChannelEnded):
                told.addCallback(lambda _: self._aside_do(self._forget(switch, channel)))
            told.addErrback(self._untold, switch)
        if name == "CHANNEL_HANGUP_COMPLETE":
            for waiter in self._ends.pop(channel, ()):
                waiter.callback(None)

    def _untold(self, failure: Failure, switch: Switch) -> None:
        """A fact that could not be written counts as a lost connection: reconnect and compare."""
        switch.lose(f"a fact could not be recorded: {failure.getErrorMessage()}")

    def _is_over(self, stream: str, channel: str) -> bool:
        call = self.engine.call(stream)
        return call is not None and any(each.channel == channel and each.over for each in call.attempts)

    def _step_event(self, channel: str, event: Headers) -> None:
        waiter = self._steps.get((channel, text(event, "Application-UUID")))
        if waiter is not None and not waiter.called:
            waiter.callback(event)

    def _job(self, switch: Switch, event: Headers) -> None:
        channel = text(event, "Job-UUID")
        if self.engine.channels.stream(channel) is None:
            return
        reply = Reply(text(event, "_body"))
        if reply.ok:
            other = reply.text.removeprefix("+OK").strip()
            if other and other != channel:
                log.error("{channel} was dialled as {other}; hanging that up", channel=channel, other=other)
                self._aside_do(self._kill(switch, other))
            return
        self._aside_do(self._job_failed(switch, channel, reply.error or reply.text.strip() or "NONE"))

    async def _job_failed(self, switch: Switch, channel: str, cause: str) -> None:
        """A failed job counts only if there is no such channel; the channel's own end goes before it."""
        if channel in self._seen and await self._end(channel, END_LAG):
            return
        stream = self.engine.channels.stream(channel)
        if stream is None or self._is_over(stream, channel):
            return
        if (await switch.api(f"uuid_exists {channel}")).text.strip() == "true":
            log.error(
                "the job of {channel} failed ({cause}) and the channel lives", channel=channel, cause=cause
            )
            return
        fact: Event = JobFailed(channel=channel, cause=cause.partition("\n")[0])
        kept = dialstring.parse_kept((await switch.api(dialstring.kept(channel))).text)
        if kept is not None and (kept.rang_at or kept.early_media_at or kept.answered_at):
            fact = _kept(channel, kept)  # it rang, and no event told us
        try:
            await self.engine.tell(channel, fact)
        except Unwritable as error:
            self._untold(Failure(error), switch)
            return
        await sleep(self._clock, END_LAG)  # the channel may leave its line behind a little later
        await self._forget(switch, channel)

    def _orphan(self, switch: Switch, channel: str, event: Headers) -> None:
        """A channel with our mark and no open call: nobody would ever hang it up."""
        if text(event, "variable_plivo_app") == "true" and text(event, "Answer-State") != "hangup":
            log.error("channel {channel} belongs to no open call; hanging it up", channel=channel)
            self._aside_do(self._end_orphan(switch, channel))

    async def _end_orphan(self, switch: Switch, channel: str) -> None:
        """Hang it up; what it leaves behind is deleted even if the event of its end gets lost."""
        await self._kill(switch, channel)
        await sleep(self._clock, END_LAG)
        await self._forget(switch, channel)

    def _up(self, switch: Switch) -> None:
        self._coming.wake_all()
        self._aside_do(self._sweep(switch))

    async def _sweep(self, switch: Switch) -> None:
        """After a new connection: hang up orphans, delete what ended channels of closed calls left."""
        shown = await switch.api("show channels as json")
        for channel in _shown(shown.text):
            if self.engine.channels.stream(channel) is None:
                mark = await switch.api(f"uuid_getvar {channel} plivo_app")
                if mark.text.strip() == "true" and self.engine.channels.stream(channel) is None:
                    log.error("channel {channel} belongs to no open call; hanging it up", channel=channel)
                    await self._kill(switch, channel)
        dump = await switch.api("hash_dump db plivotx")
        for line in dump.text.splitlines():
            channel = line.partition("/plivotx_")[2].partition("/")[0]
            stream = self.engine.channels.stream(channel)
            if channel and (stream is None or self._is_over(stream, channel)):
                await self._forget(switch, channel)

    async def _kill(self, switch: Switch, channel: str) -> None:
        await switch.api(f"uuid_kill {channel} NORMAL_CLEARING")

    async def _forget(self, switch: Switch, channel: str) -> None:
        """Delete the line that an ended channel left on the switch; its end is on record."""
        await switch.api(dialstring.forget(channel))

    # -- waiting -----------------------------------------------------------------------------------

    async def _turn(self) -> Switch | None:
        """A connected switch, and leave to dial there: its gate is held.  None if none is connected in time."""
        while switch := await self._pick():
            turn = self._gates[switch.name].acquire()
            turn.addErrback(_cancelled)
            try:
                await self._until_changed(switch, self._config.dial_patience, turn)
                if turn.called and switch.up:
                    return switch
                if turn.called:
                    self._next_turn(switch)
            finally:
                turn.cancel()  # the switch went while this attempt waited, and another one may be there
        return None

    def _next_turn(self, switch: Switch) -> None:
        """Let go of the gate, later: those who wait there would else begin one within the other."""
        self._clock.callLater(0, self._gates[switch.name].release)

    async def _pick(self) -> Switch | None:
        """The connected switch with the fewest open calls; None if none is connected in time."""
        deadline = self._clock.seconds() + self._config.dial_patience
        while True:
            up = [each for each in self._switches.values() if each.up]
            if len(up) == 1:
                return up[0]
            if up:
                return min(up, key=lambda each: self._load(each.name))
            left = deadline - self._clock.seconds()
            if left <= 0:
                return None
            await self._wait(self._coming, left)

    def _load(self, name: str) -> int:
        """How many calls a switch has, those that wait to be dialled there counted."""
        gate = self._gates[name]
        return self._calls[name] + UNWRITTEN - gate.tokens + len(gate.waiting)

    async def _wait_up(self, switch: Switch, seconds: float) -> bool:
        if not switch.up:
            await self._wait(switch.coming, seconds)
        return switch.up

    async def _until_changed(self, switch: Switch, seconds: float, *others: Deferred[Any]) -> None:
        """Until the connection is lost, *seconds* have passed, or one of *others* fires."""
        await self._wait(switch.changing, seconds, *others)

    async def _wait(self, waiters: Waiters, seconds: float, *others: Deferred[Any]) -> None:
        """Until *waiters* are woken, *seconds* have passed, or one of *others* fires."""
        over = waiters.add()
        for each in others:
            each.addCallback(_on_the_way, waiters.wake, over)
        timer = self._clock.callLater(seconds, waiters.wake, over)
        try:
            await over
        finally:
            if timer.active():
                timer.cancel()

    async def _end(self, channel: str, seconds: float) -> bool:
        """Whether the end event of *channel* comes within *seconds*."""
        waiter: Deferred[None] = Deferred()
        self._ends.setdefault(channel, []).append(waiter)
        try:
            await self._wait(Waiters(), seconds, waiter)
            return waiter.called
        finally:
            waiting = self._ends.get(channel, [])
            if waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._ends[channel]

    def _ring_limit(self, ticket: Ticket) -> float:
        return max(each.timeout for each in ticket.call.request.gateways)

    def _aside_do(self, work: Coroutine[Any, Any, None]) -> None:
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


def dial_line(command: Originate) -> str:
    """The originate command for an attempt; raises `dialstring.Unsafe` with the name of the parameter."""
    return dialstring.originate(
        channel=command.channel,
        gateway=command.gateway.prefix,
        to=command.to_number,
        caller_id_number=command.caller_id_number,
        caller_id_name=command.caller_id_name,
        timeout=command.gateway.timeout,
        codecs=command.gateway.codecs,
        request_uuid=command.stream,
        ring_backstop=command.ring_backstop,
        answer_backstop=command.answer_backstop,
        progress_timeout=command.progress_timeout,
        send_digits=command.send_digits,
        early_digits=command.early_digits,
        early_margin=command.early_margin,
        variables=command.variables,
        allowed=command.allowed,
    )


def _line(command: Originate) -> str | JobFailed:
    """The originate command; where none can be made, the failure of the attempt, so that the call ends."""
    try:
        return dial_line(command)
    except dialstring.Unsafe as error:  # the form is checked by the same function: an older log
        log.error("call {call}: {error}", call=command.stream, error=error)
        return JobFailed(channel=command.channel, cause="INVALID_NUMBER_FORMAT", dialled=False)
    except Exception:
        log.failure("call {call}: no line can be made of {command}", call=command.stream, command=command)
        return JobFailed(channel=command.channel, cause="NORMAL_UNSPECIFIED", dialled=False)


def _on_the_way(value: Any, tell: Callable[[Any], None], whom: Any) -> Any:
    """Tell somebody that it came, and pass it on."""
    tell(whom)
    return value


def _cancelled(failure: Failure) -> None:
    """One that lost the race."""


def _lost(failure: Failure) -> None:
    if not failure.check(Disconnected, CancelledError):
        log.failure("work on a switch failed", failure)


def _attempt(ticket: Ticket, channel: str) -> Attempt | None:
    return next((each for each in ticket.call.attempts if each.channel == channel), None)


def _missing(channel: str, *, restarted: bool = False) -> ChannelEnded:
    if restarted:
        return ChannelEnded(channel=channel, cause=SWITCH_RESTARTED, found="restart")
    return ChannelEnded(channel=channel, cause=OUTCOME_UNKNOWN, found="missing")


def _kept(channel: str, kept: dialstring.Kept) -> ChannelEnded:
    """The end of a channel, from the line that it left behind on the switch."""
    return ChannelEnded(
        channel=channel,
        cause=kept.cause,
        at=kept.ended_at,
        rang_at=min(filter(None, (kept.rang_at, kept.early_media_at)), default=0),
        answered_at=kept.answered_at,
        sip_code=kept.sip_code,
        sip_side=kept.sip_side,
        found="kept",
    )


def _step_ended(command: Step | StopStep, event: Headers) -> StepEnded:
    result = tuple(
        (name, text(event, f"variable_{name}")) for name in command.returns if f"variable_{name}" in event
    )
    return StepEnded(key=command.step, result=result, cut=text(event, "Answer-State") == "hangup")


def _shown(listing: str) -> list[str]:
    """The UUIDs in the answer to `show channels as json` that may be ours."""
    try:
        rows = msgspec.json.decode(listing).get("rows", [])
    except (msgspec.DecodeError, AttributeError):
        return []
    uuids = [str(row.get("uuid", "")) for row in rows if isinstance(row, dict)]
    return [each for each in uuids if each[14:15] == "5"]
