"""Runs applications on one channel: the dialplan's list, the queue of sendmsg, nesting, locks, breaks and transfers.

An application is a generator (applications.py): it yields what it waits for and is sent how the wait ended.  The top of
the stack runs, those below are paused (out_event_lock: completions come in reverse order).  Behaviour by the recordings
out_event_lock, out_break, call_sendmsg_inbound, call_transfer_inline and by driving-calls.md, sections 1 and 2;
`switch_ivr_parse_event` (switch_ivr.c) and `switch_core_session_exec` (switch_core_session.c) for the details.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plivotx.emulator.causes import cause as read_cause
from plivotx.emulator.dialstring import holds_variable, integer, true

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from plivotx.emulator.channel import Channel

DENIED = "<API Execute Permission Denied>"

_SPECIAL = re.compile(r"[\\$]")
_ESCAPED = re.compile(r"\\[\\nst']")
_FRAME = 0.02
_SHORTEST_LOOP = 0.5  # a round that takes less ends the loop
_DEEPEST = 100
_MOST_EXPANSIONS = 1000  # a variable that holds itself twice would never end


@dataclass(frozen=True)
class Wait:
    """What an application waits for."""

    seconds: float | None = None
    """How long at most; None is for ever."""
    pauses: bool = True
    """Whether the time stands still while another application runs nested inside (playback) or not (sleep)."""
    digits: str = ""
    """Keys that end the wait."""
    deaf: bool = False
    """Whether keys stay in the channel's queue (sleep) or are taken from it as they come (all others)."""
    breakable: bool = True
    """Whether uuid_break ends it."""
    audio: bool = False
    """Whether it ends, with `audio`, when the far end begins or stops talking."""


Body = Generator[Wait, str, str | None]
"""An application at work: yields waits, is sent `time`, `break`, `digit`, `audio`, `transfer` or `hangup`."""


@dataclass
class Running:
    """An application on the stack."""

    app: str
    argument: str
    uuid: str
    locked: bool
    message: Message | None
    started: float
    body: Body | None = None
    wait: Wait = field(default_factory=Wait)
    waiting: bool = False
    remaining: float | None = None
    since: float | None = None
    """Since when its wait goes on; None while it is paused."""
    spent: float = 0.0
    """Seconds its wait lasted before it was paused."""
    timer: IDelayedCall | None = None


@dataclass
class Message:
    """One sendmsg in the queue."""

    headers: dict[str, str]
    body: str = ""
    round: int = 0


class Runner:
    """The applications of one channel."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.last: tuple[str, str] = ("", "")
        """Application and argument started last."""
        self.key = ""
        """The key that ended a wait last."""
        self.waited = 0.0
        """Seconds that the last wait lasted, without those in which something else ran inside."""
        self._stack: list[Running] = []
        self._messages: deque[Message] = deque()
        self._todo: deque[tuple[str, str | None]] = deque()
        self._started = False
        self._pumping: IDelayedCall | None = None
        self._transfer: tuple[deque[tuple[str, str | None]], str | None] | None = None
        self._stopping = False
        self._inside = 0
        self._looping = False
        self._reading = False
        self._expansions = 0

    @property
    def busy(self) -> bool:
        """Whether an application runs: then an end is noticed only at the next frame."""
        return bool(self._stack)

    @property
    def started(self) -> bool:
        """Whether the channel has left the dialling and runs its own applications."""
        return self._started

    @property
    def current(self) -> Running | None:
        """What runs now."""
        return self._stack[-1] if self._stack else None

    @property
    def breaking(self) -> bool:
        """Whether a transfer or the end is under way: what starts now ends at once."""
        return self._transfer is not None or not self.channel.up

    # --- from outside

    def start(self, todo: list[tuple[str, str | None]]) -> None:
        """Run a list of applications; behind the last one the call is hung up."""
        self._started = True
        self._todo = deque(todo)
        if self._transfer is not None:
            # it came while the channel was dialled
            self._transfer_now()
            return
        self.channel.execute_state()
        self._next()

    def queue(self, message: Message) -> None:
        """Take a sendmsg; it starts at the next frame, or when a locked application has ended."""
        self._messages.append(message)
        self._wake()

    def break_off(self, *, everything: bool) -> None:
        """uuid_break: end what can be broken; with `everything` the queue is emptied too (out_break)."""
        if everything:
            self._messages.clear()
        self._interrupt_later(everything)

    def transfer(self, todo: list[tuple[str, str | None]], fail: str | None) -> None:
        """Stop what runs at the next frame and run another list; `fail` hangs up with that cause instead."""
        self._transfer = (deque(todo), fail)
        if self._started:
            self.channel.switch.later(_FRAME, self._transfer_now)

    def stop(self, delay: float) -> None:
        """The channel was hung up: unwind when its thread notices."""
        if self._inside:
            self._stopping = True  # the application itself hung up: unwound where it returns
        elif delay:
            self.channel.switch.later(delay, self._unwind_and_finish)
        else:
            self._unwind_and_finish()

    def close(self) -> None:
        """Forget everything: queued messages die with the channel, without events."""
        for running in self._stack:
            self._cancel(running)
        self._stack.clear()
        self._messages.clear()
        self._todo.clear()
        if self._pumping is not None and self._pumping.active():
            self._pumping.cancel()
        self._pumping = None

    def take_keys(self) -> None:
        """Take the keys pressed from the channel's queue, if what runs does so; one may end it (out_dtmf)."""
        keys = self.channel.keys
        while keys and (running := self.current) is not None and running.waiting and not running.wait.deaf:
            digit = keys.popleft()
            self.channel.dequeued(digit)
            if digit.digit in running.wait.digits:
                self.key = digit.digit
                self._resume(running, "digit")

    def audio_changed(self) -> None:
        """The far end began or stopped talking."""
        running = self.current
        if running is not None and running.waiting and running.wait.audio:
            self._resume(running, "audio")

    def execute_on(self, prefix: str) -> None:
        """Run the applications of all variables that begin so, at once (switch_channel_execute_on)."""
        for value in self.channel.variables.beginning(prefix):
            if self.channel.up:
                app, colons, argument = _split_app(value)
                if colons == "::":
                    # in the channel's own thread, once it serves its queue
                    self.queue(
                        Message(
                            {"call-command": "execute", "execute-app-name": app, "execute-app-arg": argument}
                        )
                    )
                else:
                    self._side(app, argument)

    def expand(self, text: str) -> str:
        """Expand `${..}` as switch_channel_expand_variables does; `${api(..)}` is refused, as with api-expansion=false."""
        self._expansions = 0
        return self._expand(text, 0)

    # --- the stack

    def _next(self) -> None:
        """Go on with the list; at its end hang up."""
        if self._looping:
            return
        self._looping = True
        try:
            while not self._stack and not self.breaking:
                if not self._todo:
                    self.channel.hangup("NORMAL_CLEARING", delay=0)
                    return
                app, argument = self._todo.popleft()
                self._push(app, argument or "", locked=False, message=None)
        finally:
            self._looping = False

    def _push(self, app: str, argument: str, *, locked: bool, message: Message | None) -> None:
        """Start an application; if there is no such one the call is hung up."""
        channel = self.channel
        body = channel.switch.application(app)
        if body is None:
            channel.hangup("DESTINATION_OUT_OF_ORDER", delay=0)
            return
        paused = self.current
        if paused is not None:
            self._pause(paused)
        uuid = channel.get("app_uuid") or channel.switch.new_uuid()
        channel.set("app_uuid", None)
        if not true(channel.get("app_disable_expand_variables")):
            argument = self.expand(argument)
        now = channel.switch.clock.seconds()
        running = Running(app, argument, uuid, locked, message, now)
        self._announce(running)
        self._stack.append(running)
        running.body = body(channel, argument)
        self._step(running, None)

    def _announce(self, running: Running) -> None:
        channel = self.channel
        self.last = (running.app, running.argument)
        channel.switch.ran(channel, running.app, running.argument)
        channel.variables["call_uuid"] = channel.uuid
        channel.variables["current_application"] = running.app
        channel.set("current_application_data", running.argument)
        channel.set("current_application_response", None)
        channel.fire("CHANNEL_EXECUTE", *_application_headers(running))

    def _step(self, running: Running, how: str | None) -> None:
        """Let an application go on until its next wait or its end."""
        assert running.body is not None
        running.waiting = False
        self._count(running)
        self.waited, running.spent = running.spent, 0.0
        self._inside += 1
        try:
            wait = next(running.body) if how is None else running.body.send(how)
        except StopIteration as end:
            self._inside -= 1
            self._completed(running, end.value)
            return
        self._inside -= 1
        if self._stopping:
            self._stopping = False
            self._unwind_and_finish()
            return
        running.wait = wait
        running.remaining = wait.seconds
        if self.breaking and running.app != "park":
            self._step(running, "hangup" if not self.channel.up else "transfer")
            return
        running.waiting = True
        self._arm(running)
        self.take_keys()
        if not running.locked:
            self._pump()

    def _completed(self, running: Running, response: str | None) -> None:
        self._cancel(running)
        if running in self._stack:
            self._stack.remove(running)
        channel = self.channel
        if response is not None:
            channel.set("current_application_response", response)
        answer = channel.get("current_application_response") or "_none_"
        headers = _application_headers(running)
        channel.fire("CHANNEL_EXECUTE_COMPLETE", *headers[:-1], ("Application-Response", answer), headers[-1])
        if self._stopping:
            self._stopping = False
            self._unwind_and_finish()
            return
        if not channel.up:
            return
        message = running.message
        if message is not None and self._again(running, message):
            return
        if message is not None:
            channel.set("current_loop", None)
            channel.set("total_loops", None)
        if self._transfer is not None:
            return
        below = self.current
        if below is None:
            self._next()
            return
        if below.since is None:
            self._arm(below)
        self.take_keys()
        self._pump()

    def _again(self, running: Running, message: Message) -> bool:
        """Run the next round of a message with `loops`."""
        loops = _loops(message)
        message.round += 1
        took = self.channel.switch.clock.seconds() - running.started
        if self._transfer is not None or took < _SHORTEST_LOOP or not (message.round < loops or loops < 0):
            return False
        self._execute(message)
        return True

    def _arm(self, running: Running) -> None:
        running.since = self.channel.switch.clock.seconds()
        if running.remaining is not None:
            running.timer = self.channel.switch.later(
                max(running.remaining, 0.0), self._resume, running, "time"
            )

    def _pause(self, running: Running) -> None:
        since, now = running.since, self.channel.switch.clock.seconds()
        self._cancel(running)
        self._count(running)
        if since is not None and running.remaining is not None:
            # a sleep's time goes on, but the sleep cannot end meanwhile
            running.remaining -= now - since

    def _count(self, running: Running) -> None:
        """Stop the count of the seconds that a wait lasts."""
        if running.since is not None:
            running.spent += self.channel.switch.clock.seconds() - running.since
        running.since = None

    def _cancel(self, running: Running) -> None:
        if running.timer is not None and running.timer.active():
            running.timer.cancel()
        running.timer = None

    def _resume(self, running: Running, how: str) -> None:
        """End the wait of what runs."""
        if running is not self.current:
            return
        self._cancel(running)
        self._step(running, how)

    # --- messages

    def _wake(self) -> None:
        running = self.current
        if running is None or running.locked or self._pumping is not None:
            return
        self._pumping = self.channel.switch.later(_FRAME, self._pump_now)

    def _pump_now(self) -> None:
        self._pumping = None
        self._pump()

    def _pump(self) -> None:
        """Run queued messages inside what runs, unless it is locked."""
        if self._reading:
            return
        self._reading = True
        try:
            while self._messages and not self.breaking:
                running = self.current
                if running is None or running.locked:
                    return
                self._parse(self._messages.popleft())
        finally:
            self._reading = False

    def _parse(self, message: Message) -> None:
        command = message.headers.get("call-command", "")
        if command == "execute":
            self._execute(message)
        elif command == "hangup":
            self.channel.hangup(read_cause(message.headers.get("hangup-cause")), delay=0)

    def _execute(self, message: Message) -> None:
        headers = message.headers
        app = headers.get("execute-app-name", "")
        if not app:
            return
        argument = headers.get("execute-app-arg", "")
        if not argument and headers.get("content-type", "").lower() == "text/plain":
            argument = message.body
        if headers.get("event-uuid"):
            self.channel.set("app_uuid", headers["event-uuid"])
        self.channel.variables["current_loop"] = str(message.round + 1)
        self.channel.variables["total_loops"] = str(_loops(message))
        self._push(app, argument, locked=true(headers.get("event-lock")), message=message)

    def _side(self, app: str, argument: str) -> None:
        """Run an application beside everything else, to its end at once."""
        channel = self.channel
        body = channel.switch.application(app)
        if body is None:
            channel.hangup("DESTINATION_OUT_OF_ORDER")
            return
        if not true(channel.get("app_disable_expand_variables")):
            argument = self.expand(argument)
        running = Running(app, argument, channel.switch.new_uuid(), False, None, 0.0)
        self._announce(running)
        self._inside += 1
        with suppress(StopIteration):
            next(body(channel, argument))
        self._inside -= 1
        headers = _application_headers(running)
        channel.fire(
            "CHANNEL_EXECUTE_COMPLETE", *headers[:-1], ("Application-Response", "_none_"), headers[-1]
        )
        if self._stopping:
            # the channel's own thread notices, while this one goes on
            self._stopping = False
            channel.switch.later(_FRAME, self._unwind_and_finish)

    # --- interruptions

    def _interrupt_later(self, everything: bool) -> None:
        running = self.current
        if running is not None and running.app != "park":
            self.channel.switch.later(_FRAME, self._interrupt, running, everything)

    def _interrupt(self, running: Running, everything: bool) -> None:
        if running is not self.current or self.breaking or not running.wait.breakable:
            return
        self._resume(running, "break")
        if everything:
            self._interrupt_later(everything)

    def _unwind(self, how: str) -> None:
        """End everything on the stack, top first; before a transfer the queue runs, broken (driving-calls.md)."""
        while self._stack:
            running = self._stack[-1]
            if how == "transfer" and running.app == "park" and self._messages:
                self._parse(self._messages.popleft())
                if not self.channel.up:
                    return
                continue
            self._cancel(running)
            self._step(running, how)

    def _unwind_and_finish(self) -> None:
        self._unwind("hangup")
        self.channel.finish()

    def _transfer_now(self) -> None:
        if self._transfer is None or not self.channel.up:
            return
        todo, fail = self._transfer
        self.channel.state_number = 2
        self._unwind("transfer")
        if not self.channel.up:
            return
        self._transfer = None
        self._todo.clear()
        self.channel.route(fail is None)
        if fail is not None:
            self.channel.hangup(fail, delay=0)
            return
        self.start(list(todo))

    # --- variables in arguments

    def _expand(self, text: str, depth: int) -> str:
        self._expansions += 1
        if (
            depth > _DEEPEST
            or self._expansions > _MOST_EXPANSIONS
            or not (holds_variable(text) or _ESCAPED.search(text))
        ):
            return text
        out: list[str] = []
        at, length = 0, len(text)
        while at < length:
            found = _SPECIAL.search(text, at)
            if found is None:
                out.append(text[at:])
                break
            if found.start() > at:
                out.append(text[at : found.start()])
                at = found.start()
            char = text[at]
            following = text[at + 1] if at + 1 < length else ""
            if char == "$" and text.startswith("${", at + 1):
                at += 1  # `$${name}` is `${name}` (out_execute)
            elif char == "\\" and following == "$":
                out.append("$")
                at += 2
            elif char == "\\" and following == "'":
                at += 2
            elif char == "\\" and following == "\\":
                out.append("\\")
                at += 2
            elif char == "$" and following == "{":
                end = _closing_brace(text, at + 1)
                if end is None:
                    break
                out.append(self._value(text[at + 2 : end], depth))
                at = end + 1
            else:
                out.append(char)
                at += 1
        return "".join(out)

    def _value(self, name: str, depth: int) -> str:
        name = self._expand(name, depth + 1)
        if "(" in name or " " in name:
            return DENIED
        value = self.channel.get(name)
        return self._expand(value, depth + 1) if value is not None else ""


def _application_headers(running: Running) -> list[tuple[str, str]]:
    headers = [("Application", running.app)]
    if running.argument:
        headers.append(("Application-Data", running.argument))
    headers.append(("Application-UUID", running.uuid))
    return headers


def _loops(message: Message) -> int:
    loops = message.headers.get("loops")
    return 1 if loops is None else integer(loops)


def _split_app(value: str) -> tuple[str, str, str]:
    """Cut `app arg`, `app:arg` or `app::arg` (switch_channel_execute_on_value)."""
    match = re.match(r"([^ :]*)( |::?)?", value)
    assert match is not None
    return match[1], match[2] or "", value[match.end() :]


def _closing_brace(text: str, start: int) -> int | None:
    depth = 0
    for i in range(start, len(text)):
        if text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return i
    return None
