"""Events and how they look on the wire: plain, json and xml, each rendered at most once and only if somebody wants it.

The encodings are those of NOTES.md, section 1, and of the recordings in_event_plain, in_event_json and in_value_encoding.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import starmap
from typing import TYPE_CHECKING

from plivotx.emulator.variables import ARRAY, elements

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel

Headers = list[tuple[str, str]]

# switch_url_encode: these bytes are encoded; a `%` before two upper-case hex digits is left as it is
_UNSAFE = re.compile(rb'%(?![0-9A-F]{2})|[\x00-\x20\x7f-\xff"#&+:;<=>?@\[\\\]^`{|}]')
_UNSAFE_TEXT = re.compile(r"[^!$\'()*,\-./0-9A-Z_a-z~]")
_JSON = re.compile(r'["\\\x00-\x1f]')
_JSON_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

NAMES = frozenset(
    [
        "CUSTOM",
        "CLONE",
        "CHANNEL_CREATE",
        "CHANNEL_DESTROY",
        "CHANNEL_STATE",
        "CHANNEL_CALLSTATE",
        "CHANNEL_ANSWER",
        "CHANNEL_HANGUP",
        "CHANNEL_HANGUP_COMPLETE",
        "CHANNEL_EXECUTE",
        "CHANNEL_EXECUTE_COMPLETE",
        "CHANNEL_HOLD",
        "CHANNEL_UNHOLD",
        "CHANNEL_BRIDGE",
        "CHANNEL_UNBRIDGE",
        "CHANNEL_PROGRESS",
        "CHANNEL_PROGRESS_MEDIA",
        "CHANNEL_OUTGOING",
        "CHANNEL_PARK",
        "CHANNEL_UNPARK",
        "CHANNEL_APPLICATION",
        "CHANNEL_ORIGINATE",
        "CHANNEL_UUID",
        "API",
        "LOG",
        "INBOUND_CHAN",
        "OUTBOUND_CHAN",
        "STARTUP",
        "SHUTDOWN",
        "PUBLISH",
        "UNPUBLISH",
        "TALK",
        "NOTALK",
        "SESSION_CRASH",
        "MODULE_LOAD",
        "MODULE_UNLOAD",
        "DTMF",
        "MESSAGE",
        "PRESENCE_IN",
        "NOTIFY_IN",
        "PRESENCE_OUT",
        "PRESENCE_PROBE",
        "MESSAGE_WAITING",
        "MESSAGE_QUERY",
        "ROSTER",
        "CODEC",
        "BACKGROUND_JOB",
        "DETECTED_SPEECH",
        "DETECTED_TONE",
        "PRIVATE_COMMAND",
        "HEARTBEAT",
        "TRAP",
        "ADD_SCHEDULE",
        "DEL_SCHEDULE",
        "EXE_SCHEDULE",
        "RE_SCHEDULE",
        "RELOADXML",
        "NOTIFY",
        "PHONE_FEATURE",
        "PHONE_FEATURE_SUBSCRIBE",
        "SEND_MESSAGE",
        "RECV_MESSAGE",
        "REQUEST_PARAMS",
        "CHANNEL_DATA",
        "GENERAL",
        "COMMAND",
        "SESSION_HEARTBEAT",
        "CLIENT_DISCONNECTED",
        "SERVER_DISCONNECTED",
        "SEND_INFO",
        "RECV_INFO",
        "RECV_RTCP_MESSAGE",
        "SEND_RTCP_MESSAGE",
        "CALL_SECURE",
        "NAT",
        "RECORD_START",
        "RECORD_STOP",
        "PLAYBACK_START",
        "PLAYBACK_STOP",
        "CALL_UPDATE",
        "FAILURE",
        "SOCKET_DATA",
        "MEDIA_BUG_START",
        "MEDIA_BUG_STOP",
        "CONFERENCE_DATA_QUERY",
        "CONFERENCE_DATA",
        "CALL_SETUP_REQ",
        "CALL_SETUP_RESULT",
        "CALL_DETAIL",
        "DEVICE_STATE",
        "TEXT",
        "SHUTDOWN_REQUESTED",
        "PRESENCE_IN_IN",
        "ALL",
    ]
)
"""The names that `event` knows (switch_types.h); matched in any case."""


def to_bytes(text: str) -> bytes:
    """Write text as it came: what was no UTF-8 goes out as the bytes it was."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """Read bytes as text that `to_bytes` gives back unchanged."""
    return data.decode("utf-8", "surrogateescape")


@lru_cache(maxsize=16384)
def url_encode(value: str) -> str:
    """Encode a header value of a plain event."""
    if _UNSAFE_TEXT.search(value) is None:
        return value
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], to_bytes(value)).decode("ascii")


@lru_cache(maxsize=16384)
def _json_string(value: str) -> str:
    return '"' + _JSON.sub(lambda m: _JSON_ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", value) + '"'


@lru_cache(maxsize=16384)
def _json_pair(name: str, value: str) -> str:
    if value.startswith(ARRAY):
        text = "[" + ",".join(map(_json_string, elements(value))) + "]"
    else:
        text = _json_string(value)
    return f"{_json_string(name)}:{text}"


@lru_cache(maxsize=16384)
def _json_variable(name: str, value: str) -> str:
    return _json_pair(f"variable_{name}", value)


@lru_cache(maxsize=16384)
def _plain_line(name: str, value: str) -> str:
    return f"{name}: {url_encode(_single(value))}\n"


class Event:
    """One event: its name, its headers in order, perhaps a body."""

    __slots__ = ("_known", "_rendered", "body", "headers", "name", "subclass")

    def __init__(self, name: str, headers: Headers, body: bytes | None = None, subclass: str = "") -> None:
        self.name = name
        self.headers = headers
        self.body = body
        self.subclass = subclass
        self._known: dict[str, str] | None = None
        self._rendered: dict[str, bytes] = {}

    def settle(self) -> None:
        """From now on the event stays as it is, whatever changes."""

    def get(self, name: str) -> str | None:
        """The first value of a header, whatever its case; None if it is not there."""
        if self._known is None:
            self._known = {header.lower(): value for header, value in reversed(self.headers)}
        return self._known.get(name.lower())

    def plain(self) -> bytes:
        """The event as text/event-plain without its outer head; also what `uuid_dump` answers."""
        self.settle()
        lines = [_plain_line(name, value) for name, value in self.headers]
        if not self.body:
            return to_bytes("".join([*lines, "\n"]))
        head = "".join([*lines, f"Content-Length: {len(self.body)}\n\n"])
        return to_bytes(head) + self.body

    def json(self) -> bytes:
        """The event as text/event-json; duplicate names stay duplicate."""
        pairs = self._json_pairs()
        if self.body:
            pairs.append(f'"Content-Length":"{len(self.body)}"')
            pairs.append(f'"_body":{_json_string(to_text(self.body))}')
        return to_bytes("{" + ",".join(pairs) + "}")

    def _json_pairs(self) -> list[str]:
        return list(starmap(_json_pair, self.headers))

    def xml(self) -> bytes:
        """The event as text/event-xml."""
        self.settle()
        out = ["<event>\n  <headers>\n"]
        for name, value in self.headers:
            out += [f"    <{name}>{url_encode(part)}</{name}>\n" for part in elements(value)]
        out.append("  </headers>\n")
        if self.body:
            body = to_text(self.body).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            out.append(f"  <Content-Length>{len(self.body)}</Content-Length>\n  <body>{body}</body>\n")
        out.append("</event>")
        return to_bytes("".join(out))

    def message(self, kind: str) -> bytes:
        """The whole message for a connection of one format (`plain`, `json`, `xml`), rendered once."""
        rendered = self._rendered.get(kind)
        if rendered is None:
            content = self.plain() if kind == "plain" else self.json() if kind == "json" else self.xml()
            head = f"Content-Length: {len(content)}\nContent-Type: text/event-{kind}\n\n"
            rendered = self._rendered[kind] = head.encode("ascii") + content
        return rendered


class ChannelEvent(Event):
    """An event of a channel.

    Most of it is the channel's profile and variables.  They are left with the channel until somebody wants the event,
    whom the `first` and `last` headers alone may tell that he does not.
    """

    __slots__ = ("_channel", "_last", "_profile", "_variables")

    def __init__(
        self,
        name: str,
        channel: Channel,
        first: Headers,
        last: Headers,
        *,
        profile: bool = True,
        variables: bool = True,
    ) -> None:
        super().__init__(name, first)
        self._channel: Channel | None = channel
        self._last = last
        self._profile = profile
        self._variables = variables

    def settle(self) -> None:
        """From now on the event stays as it is, whatever becomes of the channel."""
        channel, self._channel, self._known = self._channel, None, None
        if channel is None:
            return
        if self._profile:
            self.headers += channel.caller_headers()
        if self._variables:
            self.headers += channel.variable_headers()
        self.headers += self._last

    def get(self, name: str) -> str | None:
        """The first value of a header, whatever its case; None if it is not there."""
        if self._channel is None or name.lower().startswith(("caller-", "variable_")):
            self.settle()
            return super().get(name)
        if self._known is None:
            self._known = {header.lower(): value for header, value in reversed(self.headers + self._last)}
        return self._known.get(name.lower())

    def _json_pairs(self) -> list[str]:
        if self._channel is None:
            return super()._json_pairs()
        pairs = super()._json_pairs()
        if self._profile:
            pairs += starmap(_json_pair, self._channel.caller_headers())
        if self._variables:
            pairs += starmap(_json_variable, self._channel.variables.items())
        pairs += starmap(_json_pair, self._last)
        return pairs


def _single(value: str) -> str:
    if value.startswith(ARRAY) and "|:" not in value:
        return value[len(ARRAY) :]
    return value
