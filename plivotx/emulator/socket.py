"""The server side of one event-socket connection: bytes in, commands, replies and events out.

By NOTES.md, section 1, the recordings in_*, and `read_packet` and `parse_command` (mod_event_socket.c).  The quirks are
kept: commands match by prefix, a lone CR swallows headers, LF LF in a value starts a new command, NUL cuts the rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from plivotx.emulator.dialstring import integer
from plivotx.emulator.events import NAMES, Event, Headers, to_bytes, to_text
from plivotx.emulator.runner import Message

if TYPE_CHECKING:
    from plivotx.emulator.switch import Switch

GOODBYE = b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
NOT_FOUND = "-ERR command not found"

_END = re.compile(rb"\n\r*\n")
_LEVELS = ("console", "alert", "crit", "err", "warning", "notice", "info", "debug")
_LONGEST_HEAD = 10_485_760
_MY_EVENTS = frozenset(
    [
        "CHANNEL_ANSWER",
        "CHANNEL_APPLICATION",
        "CHANNEL_BRIDGE",
        "CHANNEL_CREATE",
        "CHANNEL_DATA",
        "CHANNEL_DESTROY",
        "CHANNEL_EXECUTE",
        "CHANNEL_EXECUTE_COMPLETE",
        "CHANNEL_HANGUP",
        "CHANNEL_HANGUP_COMPLETE",
        "CHANNEL_ORIGINATE",
        "CHANNEL_UUID",
        "CHANNEL_OUTGOING",
        "CHANNEL_PARK",
        "CHANNEL_PROGRESS",
        "CHANNEL_PROGRESS_MEDIA",
        "CHANNEL_STATE",
        "CHANNEL_UNBRIDGE",
        "CHANNEL_UNPARK",
        "DETECTED_SPEECH",
        "DTMF",
        "NOTALK",
        "TALK",
    ]
)


class Session(Protocol):
    """One connection.  Events wait while a command is half received or an `api originate` blocks it."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._buffer = bytearray()
        self._authenticated = False
        self._closing = False
        self._busy = False
        """In dataReceived: events come behind the replies."""
        self._blocked = False
        """An `api` command is not done yet."""
        self._waiting: list[Event] = []
        self._format = "plain"
        self._listening = False
        self.names: set[str] = set()
        """The events this connection listens to; with ALL every name there is."""
        self._subclasses: set[str] = set()
        self._everything = False
        self._filters: list[tuple[str, str]] = []
        self._wanted: list[tuple[str, str]] = []
        self._unwanted: list[tuple[str, str]] = []
        """The filters again: those that let events pass, and those that keep them out, values without the `-`."""
        self._my_uuid: str | None = None
        self._my_events = False
        self._logging = False
        self._head: tuple[str, Headers, list[int]] | None = None

    # --- Twisted

    def connectionMade(self) -> None:
        """Ask for the password."""
        self._switch.connected(self)
        self._write(b"Content-Type: auth/request\n\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's name
        """Forget the connection."""
        self._closing = True
        self._waiting.clear()
        self._switch.disconnected(self)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; run every command that is complete."""
        if self._closing:
            return
        self._buffer += data
        self._work()

    def cut(self) -> None:
        """The switch died."""
        self._closing = True
        self._waiting.clear()
        if self.transport is not None:
            cast("ITCPTransport", self.transport).abortConnection()

    # --- reading

    def _work(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while not self._closing and not self._blocked and self._one():
                pass
        finally:
            self._busy = False
        self._flush()

    def _one(self) -> bool:
        """Read one command from the buffer and run it; False if it is not complete."""
        if self._head is None and not self._read_head():
            return False
        if self._head is None:
            return False
        command, headers, lengths = self._head
        needed = sum(lengths)
        if len(self._buffer) < needed:
            return False
        body = b""
        for length in lengths:
            body = bytes(self._buffer[:length]).partition(b"\0")[0]
            del self._buffer[:length]
        self._head = None
        self._command(command, headers, body)
        return True

    def _read_head(self) -> bool:
        buffer = self._buffer
        skip = 0
        while skip < len(buffer) and buffer[skip] in b"\r\n":
            skip += 1
        if skip:
            del buffer[:skip]
        end = _END.search(buffer)
        if end is None:
            if len(buffer) < _LONGEST_HEAD:
                return False
            raw, size = bytes(buffer), len(buffer)
        else:
            raw, size = bytes(buffer[: end.end()]), end.end()
        del buffer[:size]
        text = to_text(raw.partition(b"\0")[0])
        headers: Headers = []
        lengths: list[int] = []
        for line in _lines(text)[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                continue
            value = value.lstrip(" ")
            headers.append((name, value))
            if name.lower() == "content-length":
                length = integer(value)
                if not 0 <= length <= _LONGEST_HEAD:
                    self._close()
                    return False
                if length:
                    lengths.append(length)
        self._head = (text, headers, lengths)
        return True

    # --- writing

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def _reply(self, text: str) -> None:
        self._write(to_bytes(f"Content-Type: command/reply\nReply-Text: {text}\n\n"))

    def _answer(self, text: str) -> None:
        body = to_bytes(text or "-ERR no reply\n")
        self._write(b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body))

    def _close(self) -> None:
        self._closing = True
        self._waiting.clear()
        self._write(
            b"Content-Type: text/disconnect-notice\nContent-Length: %d\n\n%b" % (len(GOODBYE), GOODBYE)
        )
        if self.transport is not None:
            self.transport.loseConnection()

    # --- events

    def deliver(self, event: Event) -> None:
        """Send an event if this connection wants it, now or when what goes before it is written."""
        if not self._listening or self._closing or not self._wants(event):
            return
        if self._busy or self._blocked or self._buffer or self._head is not None:
            event.settle()
            self._waiting.append(event)
        else:
            self._write(event.message(self._format))

    def _flush(self) -> None:
        if self._waiting and not (self._closing or self._blocked or self._buffer or self._head is not None):
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                self._write(event.message(self._format))

    def _wants(self, event: Event) -> bool:
        if event.name not in self.names:
            return False
        if event.name == "CUSTOM" and not self._everything and event.subclass not in self._subclasses:
            return False
        if self._my_events and event.get("Unique-ID") != self._my_uuid:
            return False
        return not self._filters or self._passes(event)

    def _passes(self, event: Event) -> bool:
        """Filters are or-ed; a `-value` that matches keeps the event out (in_filter), and is no regular expression."""
        for name, unwanted in self._unwanted:
            if (event.get(name) or "").lower() == unwanted:
                return False
        for name, wanted in self._wanted:
            value = event.get(name)
            if value is not None and _matches(wanted, value):
                return True
        return False

    # --- commands

    def _command(self, command: str, headers: Headers, body: bytes) -> None:
        lowered = command.lower()
        if "mod_event_socket" in lowered and ("unload" in lowered or "reload" in lowered):
            self._reload()
            return
        if lowered.startswith(("exit", "...")):
            self._reply("+OK bye")
            self._close()
        elif not self._authenticated:
            self._authenticate(command, lowered)
        elif lowered.startswith("filter "):
            self._filter(_strip(command[7:]))
        elif lowered.startswith("myevents "):
            self._myevents(_strip(command[9:]))
        elif lowered.startswith("divert_events"):
            self._reply("-ERR not controlling a session.")
        elif lowered.startswith("sendmsg"):
            self._sendmsg(_strip(command[7:].lstrip(" ")), headers, body)
        elif lowered.startswith("sendevent"):
            self._sendevent(_strip(command), headers, body)
        elif lowered.startswith("api "):
            self._api(_strip(command[4:]))
        elif lowered.startswith("bgapi "):
            self._bgapi(_strip(command[6:]), headers)
        elif lowered.startswith("log"):
            self._log(_strip(command[3:]))
        elif lowered.startswith(("linger", "nolinger")):
            self._reply("-ERR not controlling a session")
        elif lowered.startswith("nolog"):
            self._reply("+OK no longer logging" if self._logging else "-ERR not loging")
            self._logging = False
        elif lowered.startswith("event"):
            self._event(_strip(command[5:]))
        elif lowered.startswith("nixevent"):
            self._nixevent(_strip(command[8:]))
        elif lowered.startswith("noevents"):
            self._noevents()
        else:
            self._reply(NOT_FOUND)

    def _reload(self) -> None:
        """The words reload and mod_event_socket anywhere in a head cut every client (priv_reload_words)."""
        if not self._authenticated:
            self._reply(NOT_FOUND)
            return
        self._answer(f"+OK Job-UUID: {self._switch.new_uuid()}\n")
        notice = b"The system is being shut down.\n"
        for session in list(self._switch.sessions):
            session._closing = True  # noqa: SLF001 - its own kind
            session._waiting.clear()  # noqa: SLF001 - its own kind
            session._write(  # noqa: SLF001 - its own kind
                b"Content-Type: text/disconnect-notice\nContent-Length: %d\n\n%b" % (len(notice), notice)
            )
            if session.transport is not None:
                session.transport.loseConnection()

    def _authenticate(self, command: str, lowered: str) -> None:
        if not lowered.startswith("auth "):
            self._reply(NOT_FOUND)
        elif _strip(command)[5:] == self._switch.password:
            self._authenticated = True
            self._reply("+OK accepted")
        else:
            self._reply("-ERR invalid")
            self._close()

    def _filter(self, text: str) -> None:
        name, blank, value = text.lstrip(" ").partition(" ")
        if name.lower() == "delete" and blank:
            name, _, value = value.partition(" ")
            if name.lower() == "all":
                self._filters.clear()
            else:
                self._filters = [
                    kept
                    for kept in self._filters
                    if kept[0].lower() != name.lower() or (value and kept[1].lower() != value.lower())
                ]
            self._reply(f"+OK filter deleted. [{name}][{value}]")
        elif blank:
            if name.lower() == "add":
                name, _, value = value.partition(" ")
            if value:
                self._filters.append((name, value))
            self._reply(f"+OK filter added. [{name}]=[{value}]")
        else:
            self._reply("-ERR invalid syntax")
        self._wanted = [each for each in self._filters if not each[1].startswith("-")]
        self._unwanted = [
            (name, value[1:].lower())
            for name, value in self._filters
            if value.startswith("-") and value != "-"
        ]

    def _myevents(self, text: str) -> None:
        if self._my_events:
            self._reply("-ERR aready enabled.")
            return
        uuid, _, kind = text.partition(" ")
        if self._switch.locate(uuid) is None and kind:
            self._reply("-ERR invalid uuid")
            return
        self._my_events, self._my_uuid = True, uuid
        self.names |= _MY_EVENTS
        self._listening = True
        for name in ("xml", "json"):
            if name in text or name.upper() in text:
                self._format = name
        self._switch.subscribed()
        self._reply("+OK Events Enabled")

    def _sendmsg(self, uuid: str, headers: Headers, body: bytes) -> None:
        first = _first(headers)
        uuid = uuid or first.get("session-id", "")
        channel = self._switch.locate(uuid) if uuid else None
        if channel is None:
            self._reply(f"-ERR invalid session id [{uuid}]")
            return
        channel.runner.queue(Message(first, to_text(body)))
        self._reply("+OK")

    def _sendevent(self, command: str, headers: Headers, body: bytes) -> None:
        switch = self._switch
        uuid = switch.new_uuid()
        name = command[9:].lstrip(" \t").upper()
        name = name if name in NAMES else "COMMAND"
        subclass = _first(headers).get("event-subclass", "")
        own = [(header, value) for header, value in headers if value]
        own.insert(0, ("Command", command))
        if name == "CUSTOM" and subclass:
            own = [header for header in own if header[0].lower() != "event-subclass"]
            own.insert(0, ("Event-Subclass", subclass))
        own.append(("Event-UUID", uuid))
        self._reply(f"+OK {uuid}")
        switch.deliver(Event(name, own + switch.core_headers(name), body or None, subclass))

    def _api(self, text: str) -> None:
        command, _, argument = text.partition(" ")
        self._blocked = True

        def done(answer: str) -> None:
            self._blocked = False
            if not self._closing:
                self._answer(answer)
                self._work()

        self._switch.api(command, argument, done)

    def _bgapi(self, text: str, headers: Headers) -> None:
        command, _, argument = text.partition(" ")
        job = _first(headers).get("job-uuid", "")[:255] or self._switch.new_uuid()
        self._write(
            to_bytes(f"Content-Type: command/reply\nReply-Text: +OK Job-UUID: {job}\nJob-UUID: {job}\n\n")
        )
        self._switch.background(job, command, argument)

    def _log(self, text: str) -> None:
        level = text.lstrip(" ").partition(" ")[0]
        if not level:
            number = 7
        elif level.isascii() and level.isdigit() and int(level[:4]) <= 10:
            number = int(level)
        elif level.lower() in _LEVELS:
            number = _LEVELS.index(level.lower())
        else:
            self._reply("-ERR invalid log level")
            return
        self._logging = True
        self._reply(f"+OK log level {level} [{number}]")

    def _event(self, text: str) -> None:
        words = text.partition(" ")[2].split(" ")
        if words[0].lower() in {"plain", "json", "xml"}:
            self._format = words.pop(0).lower()
        keys, custom = 0, False
        for word in words:
            name = word.upper()
            if custom:
                self._subclasses.add(word)
            elif name in NAMES:
                keys += 1
                if name == "ALL":
                    self.names |= NAMES
                    self._everything = True
                self.names.add(name)
                custom = name == "CUSTOM"
        if not keys:
            self._reply("-ERR no keywords supplied")
            return
        self._listening = True
        self._switch.subscribed()
        self._reply(f"+OK event listener enabled {self._format}")

    def _nixevent(self, text: str) -> None:
        keys, custom = 0, False
        for word in text.partition(" ")[2].split(" "):
            name = word.upper()
            if custom:
                self._subclasses.discard(word)
            elif name in NAMES:
                keys += 1
                if name == "ALL":
                    self.names.clear()
                    self._everything = False
                elif name == "CUSTOM":
                    custom = True
                else:
                    self.names.discard(name)
        self._switch.subscribed()
        self._reply("+OK events nixed" if keys else "-ERR no keywords supplied")

    def _noevents(self) -> None:
        if not self._listening:
            self._reply("-ERR not listening for events")
            return
        self._listening = False
        self._waiting.clear()
        self.names.clear()
        self._subclasses.clear()
        self._everything = False
        self._switch.subscribed()
        self._reply("+OK no longer listening for events")


def _lines(text: str) -> list[str]:
    """Cut a head as FreeSWITCH does: at the next CR if there is one anywhere ahead, else at the next LF."""
    lines: list[str] = []
    at, length, returns = 0, len(text), text.find("\r")
    while at <= length:
        if 0 <= returns < at:
            returns = text.find("\r", at)
        end = returns if returns >= 0 else text.find("\n", at)
        if end < 0:
            lines.append(text[at:])
            break
        lines.append(text[at:end])
        at = end
        while at < length and text[at] in "\r\n":
            at += 1
    return lines


def _strip(text: str) -> str:
    """What stands before the first CR, or if there is none before the first LF (strip_cr)."""
    return text.partition("\r")[0] if "\r" in text else text.partition("\n")[0]


def _first(headers: Headers) -> dict[str, str]:
    """The first of each header, by its name in lower case."""
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(name.lower(), value)
    return first


def _matches(pattern: str, value: str) -> bool:
    if pattern.startswith("/"):
        end = pattern.rfind("/")
        expression = pattern[1:end] if end > 0 else pattern[1:]
        compiled = _compiled(expression)
        return compiled is not None and compiled.search(value) is not None
    return pattern.lower() == value.lower()


_PATTERNS: dict[str, re.Pattern[str] | None] = {}


def _compiled(expression: str) -> re.Pattern[str] | None:
    if expression not in _PATTERNS:
        if len(_PATTERNS) > 1000:
            _PATTERNS.clear()
        try:
            _PATTERNS[expression] = re.compile(expression)
        except (re.error, OverflowError, RecursionError):
            _PATTERNS[expression] = None
    return _PATTERNS[expression]
