"""The steps of scripts: each is sent once, and its end is found out whatever is missed."""

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from plivotx.commands import ApiStep, Step, StopStep
from plivotx.engine import Ticket
from plivotx.esl import dialstring
from plivotx.esl.connections import Disconnected, Switch
from plivotx.esl.session import BadCommand, Headers
from plivotx.esl.translate import text
from plivotx.events import Event, StepEnded, StepStarted
from plivotx.handlers.switch.board import END_LAG, LOOK_AGAIN, Board, missing
from plivotx.handlers.switch.dialling import Dialling
from plivotx.waiting import sleep

log = Logger()

STEP_LAG = 0.3
"""Seconds by which a step shows on the channel later than it was sent; measured: 0.02."""
PARK_AGAIN = 1.0
"""Seconds after which a channel is looked at that was answered and is not known to be parked."""


class Steps:
    """Does `Step`, `StopStep` and `ApiStep`."""

    def __init__(self, board: Board, dialling: Dialling) -> None:
        self._board = board
        self._dialling = dialling
        self._parked: dict[str, Deferred[None]] = {}  # by channel: fires once it takes applications
        self._steps: dict[tuple[str, str], Deferred[Headers]] = {}  # by channel and step: fires at its end

    def idle(self) -> dict[str, int]:
        """What is held in memory: all zero when no call is open.  For tests and for metrics."""
        return {"parked": len(self._parked), "steps": len(self._steps)}

    def forget(self, channel: str) -> None:
        """Forget a channel that is not watched any more."""
        self._parked.pop(channel, None)

    def parked(self, channel: str) -> None:
        """Take note that the channel waits in park, and takes applications."""
        parked = self._parked.setdefault(channel, Deferred())
        if not parked.called:
            parked.callback(None)

    def heard(self, channel: str, event: Headers) -> None:
        """Take the event of an application that has ended: it may be what a step waits for."""
        waiter = self._steps.get((channel, text(event, "Application-UUID")))
        if waiter is not None and not waiter.called:
            waiter.callback(event)

    async def step(self, command: Step, ticket: Ticket) -> Sequence[Event]:
        """Send the step if the channel does not carry its mark, then wait for its end."""
        switch = self._board.switches.get(command.switch)
        if switch is None:  # not configured any more; Watch tells the operator
            return (missing(command.channel),)
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
                            await sleep(self._board.clock, STEP_LAG)
                            found = await self._find_step(switch, command, sent_on)
                        if isinstance(found, StepEnded):
                            return (found,)
                        fresh = found == "absent"
                    if fresh:
                        await self._until_parked(switch, command.channel)
                        fresh = False
                        await self._send_step(switch, command)
                    sent_on = switch.core
                    await self._board.until_changed(switch, LOOK_AGAIN, ended)
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

    async def _send_step(self, switch: Switch, command: Step) -> None:
        """The variables, then the application, in one go: they arrive in this order."""
        lines = [dialstring.setvar(command.channel, *each) for each in command.variables]
        if not switch.up:
            raise Disconnected("before a step was sent")
        # "no such session": the channel is gone, and Watch concludes that
        await switch.step(command.channel, command.step, command.app, command.arg, lines)

    async def stop_step(self, command: StopStep, ticket: Ticket) -> Sequence[Event]:
        """Break off what the step runs and wait until the channel is parked: sent earlier, the next one fails.

        A transfer breaks off everything but a recording, which it hangs up with the call: that one is
        broken first, and is over then (driving-calls.md, section 1).
        """
        switch = self._board.switches.get(command.switch)
        if switch is None:  # not configured any more; Watch tells the operator
            return (missing(command.channel),)
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
                    await sleep(self._board.clock, STEP_LAG)  # or was written a moment ago
                    continue
                with ticket.sent():
                    ended = await self._break_off(switch, command)
                if ended is not None:
                    return (ended,)
                await sleep(self._board.clock, STEP_LAG)
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
            dump = await self._board.dump(switch, channel)
            if dump is not None and text(dump, "variable_current_application") == "record":
                await switch.api(f"uuid_break {channel}")
                await self._board.until_changed(switch, END_LAG, ended)
                found = await self._find_step(switch, command, "")
                if isinstance(found, StepEnded):
                    return msgspec.structs.replace(found, stopped=True)
                # else it was not running: a recording ends within a moment
            parked = self._parked[channel] = Deferred()
            await switch.api(f"uuid_transfer {channel} park inline")
            await self._board.until_changed(switch, END_LAG, parked)
            dump = await self._board.dump(switch, channel)
            if dump is None or text(dump, "variable_current_application") != "park":
                return None
            self.parked(channel)
            return msgspec.structs.replace(_step_ended(command, dump), stopped=True)
        finally:
            self._steps.pop(name, None)
            self._leave_parked(channel)

    async def api_step(self, command: ApiStep, ticket: Ticket) -> Sequence[Event]:
        """Run an API command and keep its answer; again, if the connection was lost before it came."""
        switch = self._board.switches.get(command.switch)
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

    async def _until_parked(self, switch: Switch, channel: str) -> None:
        """Until the channel waits in park: what is queued before it got there is cut short.

        The answer is told some milliseconds earlier, and an application sent at once ended with
        PLAYBACK ERROR as often as not.
        """
        parked = self._parked.setdefault(channel, Deferred())
        if self._dialling.written(channel) == switch.epoch and not parked.called:
            # nothing was missed since it was dialled: the event is to come, if it does not get lost
            await self._board.until_changed(switch, PARK_AGAIN, parked)
        while not parked.called:
            dump = await self._board.dump(switch, channel)
            if dump is not None and (
                text(dump, "variable_current_application") == "park" or "variable_plivotx_step" in dump
            ):
                self.parked(channel)
            else:
                await self._board.until_changed(switch, PARK_AGAIN, parked)
                if not switch.up:
                    raise Disconnected("while waiting for park")

    async def _find_step(self, switch: Switch, command: Step | StopStep, sent_on: str) -> StepEnded | str:
        """Where the step is: ``absent``, ``running``, or ended."""
        dump = await self._board.dump(switch, command.channel)
        if dump is None or text(dump, "Answer-State") == "hangup":
            return "running"  # the channel is gone: nothing can be sent, and Watch concludes the rest
        if text(dump, "variable_plivotx_done") == command.step:
            return _step_ended(command, dump)
        marked = text(dump, "variable_plivotx_step") == command.step
        return "running" if marked and sent_on in ("", switch.core) else "absent"

    def _leave_parked(self, channel: str) -> None:
        if channel not in self._board.watched:
            self._parked.pop(channel, None)


def _step_ended(command: Step | StopStep, event: Headers) -> StepEnded:
    result = tuple(
        (name, text(event, f"variable_{name}")) for name in command.returns if f"variable_{name}" in event
    )
    return StepEnded(key=command.step, result=result, cut=text(event, "Answer-State") == "hangup")
