"""Dial: an attempt is recorded, then written to a switch, once; before that it waits for its turn."""

from collections.abc import Sequence
from functools import lru_cache

from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.commands import Originate
from plivotx.engine import Ticket
from plivotx.esl import dialstring
from plivotx.esl.connections import Disconnected, Switch
from plivotx.events import AttemptSkipped, AttemptStarted, CallEnded, Event, JobFailed
from plivotx.handlers.switch.board import Board

log = Logger()

UNWRITTEN = 10
"""Attempts that are recorded and not yet written to a switch, at most, for a sudden death leaves them in doubt:
nobody was dialled, and nobody can be sure of it."""
UNREACHABLE = "NETWORK_OUT_OF_ORDER"
"""Hangup cause of a call that could not be dialled because no switch was connected."""


class Dialling:
    """Does `Originate`."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._gates = {name: DeferredSemaphore(UNWRITTEN) for name in board.switches}
        self._unwritten: set[str] = set()  # channels that are decided to be dialled, not yet written
        self._called_off: set[str] = set()  # of these, those that are not to be dialled any more
        self._written: dict[str, int] = {}  # channel: epoch of the connection its originate went out on

    def idle(self) -> dict[str, int]:
        """What is held in memory: all zero when no call is open.  For tests and for metrics."""
        return {
            "unwritten": len(self._unwritten),
            "called off": len(self._called_off),
            "written": len(self._written),
        }

    def call_off(self, channel: str) -> bool:
        """Have a channel not dialled; false if the originate is written, or another's."""
        if channel not in self._unwritten:
            return False
        self._called_off.add(channel)
        return True

    def is_unwritten(self, channel: str) -> bool:
        """Whether the channel is to be dialled, and no switch has been told yet."""
        return channel in self._unwritten

    def written(self, channel: str) -> int | None:
        """Epoch of the connection that the originate was written on; None if it was another process, or long ago."""
        return self._written.get(channel)

    def forget(self, channel: str) -> None:
        """Forget that the originate was written on this very connection."""
        self._written.pop(channel, None)

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
                connected = await self._board.wait_up(switch, self._board.config.dial_patience)
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
        prefix = command.gateway.prefix
        log.info(
            "call {call}: {prefix} is passed over, {why}", call=command.stream, prefix=prefix, why=cooling
        )
        return AttemptSkipped(number=command.number, gateway=prefix, why=cooling)

    def _cooling(self, prefix: str) -> str:
        """Why a gateway is to be left alone now; empty if it is not."""
        rules = self._board.config.rules(prefix)
        failures, since = self._board.engine.gateways.failures(prefix)
        left = since + rules.cool_down - self._board.clock.seconds()
        if not rules.cool_down or failures < rules.cool_down_after or left <= 0:
            return ""
        return f"it failed {failures} times in a row; that counts for another {left:.0f} s"

    async def _turn(self) -> Switch | None:
        """A connected switch, and leave to dial there: its gate is held.  None if none is connected in time."""
        while switch := await self._pick():
            turn = self._gates[switch.name].acquire()
            turn.addErrback(_cancelled)
            try:
                if not turn.called:
                    await self._board.until_changed(switch, self._board.config.dial_patience, turn)
                if turn.called and switch.up:
                    return switch
                if turn.called:
                    self._next_turn(switch)
            finally:
                turn.cancel()  # the switch went while this attempt waited, and another one may be there
        return None

    def _next_turn(self, switch: Switch) -> None:
        """Let go of the gate, later: those who wait there would else begin one within the other."""
        gate = self._gates[switch.name]
        if gate.waiting:
            self._board.clock.callLater(0, gate.release)
        else:
            gate.release()

    async def _pick(self) -> Switch | None:
        """The connected switch with the fewest open calls; None if none is connected in time."""
        deadline = self._board.clock.seconds() + self._board.config.dial_patience
        while True:
            up = [each for each in self._board.switches.values() if each.up]
            if len(up) == 1:
                return up[0]
            if up:
                return min(up, key=lambda each: self._load(each.name))
            left = deadline - self._board.clock.seconds()
            if left <= 0:
                return None
            await self._board.wait(self._board.coming, left)

    def _load(self, name: str) -> int:
        """How many calls a switch has, those that wait to be dialled there counted."""
        gate = self._gates[name]
        return self._board.calls[name] + UNWRITTEN - gate.tokens + len(gate.waiting)


@lru_cache(maxsize=1024)
def dial_line(command: Originate) -> str:
    """The originate command for an attempt; raises `dialstring.Unsafe` with the name of the parameter.

    It is kept a while: what a request was checked with is what is dialled.
    """
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


def _cancelled(failure: Failure) -> None:
    """One that lost the race."""
