"""The client's side of one event-socket connection, without the connection.

Commands become bytes, frames become what they mean.  Replies carry no number: FreeSWITCH answers
strictly in the order of the commands, with events in between, and that is all there is to pair them
by.  So whoever owns the connection writes what a method gives it, keeps one Deferred for each reply
that `Session.awaited` counts, and fires the oldest one at each `Replied`.
"""

import re
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from plivotx.esl.frames import Frame, PeerError

Headers: TypeAlias = dict[str, str | list[str]]
"""An event: names and values as FreeSWITCH has them, the body under ``_body``.  A list is an array
variable.  The last of several headers with one name counts.  Some events have no Event-Name (digits
that matched a binding; recorded: out_digit_action)."""


class BadCommand(ValueError):
    """The command must not be sent as it is: FreeSWITCH would take it for something else."""


# -- what comes in ---------------------------------------------------------------------------------


class Reply(msgspec.Struct, frozen=True):
    """What FreeSWITCH answered to one command."""

    text: str
    """The Reply-Text of a command, or what an `api` command printed."""
    headers: dict[str, str] = {}
    """All headers of the answer; `bgapi` puts a Job-UUID there."""

    @property
    def ok(self) -> bool:
        """Whether the answer starts with +OK.  Commands that answer a value (uuid_exists) never do."""
        return self.text.startswith("+OK")

    @property
    def error(self) -> str:
        """What FreeSWITCH complains of, such as USER_BUSY; empty if it does not."""
        for mark in ("-ERR", "-USAGE"):
            if self.text.startswith(mark):
                return self.text.removeprefix("-ERR").strip() or mark
        return ""


class Greeted(msgspec.Struct, frozen=True):
    """FreeSWITCH wants the password: send `Session.authenticate`."""


class Replied(msgspec.Struct, frozen=True):
    """The oldest command without a reply has one."""

    reply: Reply


class Happened(msgspec.Struct, frozen=True):
    """An event that was subscribed to."""

    event: Headers


class Closing(msgspec.Struct, frozen=True):
    """FreeSWITCH is about to close the connection; replies still awaited will not come."""

    reason: str
    """Such as ``killed listener because of lost events``: more than 500 in a row were dropped because they were
    not read in time, and what is known of every channel may be out of date (mod_event_socket.c, MAX_MISSED)."""


Incoming: TypeAlias = Greeted | Replied | Happened | Closing


# -- the session -----------------------------------------------------------------------------------

_FORBIDDEN = re.compile(r"[\r\n\0]")
_KEY = re.compile(r"[A-Za-z0-9._/-]+")
_WORD = re.compile(r"[!-~]+")


MARK = "plivotx"
"""The Application-UUID of a step's marks."""
UNHEARD = ("park", "sched_hangup")
"""Applications that each call runs and whose ends tell nothing: their events are kept out."""


class Session:
    """One connection to FreeSWITCH, from the greeting to the end.

    Each method that makes a command returns the bytes to write, at once and in the order of the calls,
    and counts the replies that they will have.  All raise `BadCommand`, and count nothing, if the
    command holds CR, LF or NUL where they would end a line or begin another command, or the words that
    make FreeSWITCH reload its event socket.
    """

    def __init__(self, password: str) -> None:
        self._password = password
        self.awaited = 0
        """How many replies are still to come."""

    # -- commands

    def command(self, line: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> bytes:
        """Return a command of one *line*, *headers*, and a *body* if there is one."""
        data = _packet(line, headers, body)
        self.awaited += 1
        return data

    def authenticate(self) -> bytes:
        """Return the answer to `Greeted`.

        Its reply is not ok if the password is wrong, and a `Closing` follows (recorded: in_auth_wrong).
        """
        return self.command(f"auth {self._password}")

    def events_json(self, names: Sequence[str]) -> bytes:
        """Subscribe to events by name."""
        return self.command(" ".join(["event json", *map(_word, names)]))

    def filter_(self, header: str, value: str) -> bytes:
        """Let pass only events whose *header* is *value*, or that another filter lets pass.

        Values are compared as a whole and case-blind; ``/.../`` is a regular expression.  A value behind a ``-`` is
        none, and keeps events out that others let pass (recorded: in_filter).
        """
        return self.command(f"filter {_word(header)} {value}")

    def api(self, text: str) -> bytes:
        """Run an API command.

        Nothing else is answered, nor are events sent, until it is done (recorded: orig_api_blocking).
        """
        return self.command(f"api {text}")

    def bgapi(self, text: str, job: str) -> bytes:
        """Run an API command in the background.

        Its result is the event BACKGROUND_JOB with *job* as its Job-UUID, which never comes before the
        reply on the same connection (recorded: in_bgapi).
        """
        return self.command(f"bgapi {text}", [("Job-UUID", _word(job))])

    def step(self, uuid: str, key: str, app: str, arg: str = "", before: Sequence[str] = ()) -> bytes:
        """Queue an application on a channel, between two marks and behind those queued before it; three replies.

        What stands in *before* are API commands that are run before it, with a reply each.

        The variable plivotx_step is *key* from just before the application starts, plivotx_done from
        just after its end, because nothing else that a channel shows tells an application that runs
        from one that ended.  *key* is letters, digits and ``._/-``: `set` expands its argument.  It comes
        back as Application-UUID in CHANNEL_EXECUTE and CHANNEL_EXECUTE_COMPLETE; a reply says only whether
        there is such a channel.  The marks come back with `MARK` there, by which their events are kept out.
        The argument travels in the body, where nothing looks for line ends or words in it (recorded:
        priv_reload_words, out_event_lock).
        """
        if not _KEY.fullmatch(key):
            raise BadCommand(f"a step's key can't be {key[:80]!r}")
        heard = MARK if app.lower() not in UNHEARD else key  # where the end is not heard, that of the mark is
        data = [_packet(f"api {each}", (), b"") for each in before]
        data += (
            _execute(uuid, "set", f"plivotx_step={key}", MARK),
            _execute(uuid, app, arg, key),
            _execute(uuid, "set", f"plivotx_done={key}", heard),
        )
        self.awaited += len(data)
        return b"".join(data)

    # -- frames

    def receive(self, frame: Frame) -> Sequence[Incoming]:
        """Return what *frame* means; nothing if it is of no concern.

        Raises `PeerError` for a message that no FreeSWITCH sends to us.
        """
        kind = frame.headers.get("Content-Type", "")
        match kind:
            case "text/event-json":
                return (Happened(from_json(frame.body)),)
            case "text/event-plain":
                return (Happened(from_plain(frame.body)),)
            case "command/reply":
                return (self._replied(frame.headers.get("Reply-Text", ""), frame),)
            case "api/response":
                return (self._replied(frame.body.decode("utf-8", "replace"), frame),)
            case "auth/request":
                return (Greeted(),)
            case "text/disconnect-notice":
                if frame.headers.get("Content-Disposition") == "linger":
                    return ()  # the channel has ended, the connection stays (recorded: out_execute)
                return (Closing(frame.body.decode("utf-8", "replace").strip()),)
            case "text/rude-rejection":
                # The address is not on the list of those that may connect; a `Closing` of the ordinary
                # kind follows (recorded: priv_acl_rude_rejection).
                return (Closing(frame.body.decode("utf-8", "replace").strip()),)
            case "log/data":
                return ()
        raise PeerError(f"a message of Content-Type {kind[:80]!r}")

    def _replied(self, text: str, frame: Frame) -> Replied:
        # one too many and every later reply would be given to the wrong command
        if self.awaited == 0:
            raise PeerError(f"a reply that nobody asked for: {text[:80]!r}")
        self.awaited -= 1
        return Replied(Reply(text, frame.headers))


def _packet(line: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    if not line.strip():
        raise BadCommand("an empty line is no command: it would get no reply")
    lines = [line, *(f"{name}: {value}" for name, value in headers)]
    text = "\n".join(lines)
    if text.count("\n") >= len(lines) or "\r" in text or "\0" in text:
        bad = next(each for each in lines if _FORBIDDEN.search(each))
        raise BadCommand(f"CR, LF or NUL in {bad[:80]!r}")
    if body:
        text += f"\ncontent-type: text/plain\ncontent-length: {len(body)}"
    try:
        head = text.encode()
    except UnicodeEncodeError:
        raise BadCommand("a command holds half a character (a lone surrogate)")
    # FreeSWITCH looks for these words in every head, in any case, even within a text to speak, and
    # disconnects all its clients (recorded: priv_reload_words)
    lower = head.lower()
    if b"mod_event_socket" in lower and (b"reload" in lower or b"unload" in lower):
        raise BadCommand("a command holds the words that make FreeSWITCH reload its event socket")
    return head + b"\n\n" + body


def _execute(uuid: str, app: str, arg: str, event_uuid: str) -> bytes:
    headers = (
        ("call-command", "execute"),
        ("execute-app-name", _word(app)),
        ("event-lock", "true"),
        ("Event-UUID", event_uuid),
    )
    if "\0" in arg:
        raise BadCommand("NUL in an application's argument: FreeSWITCH would drop what follows it")
    try:
        body = arg.encode()
    except UnicodeEncodeError:
        raise BadCommand("an application's argument holds half a character (a lone surrogate)")
    return _packet(f"sendmsg {_word(uuid)}", headers, body)


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise BadCommand(f"{text[:80]!r} is no single word of printable ASCII")
    return text


# -- events ----------------------------------------------------------------------------------------

_json: msgspec.json.Decoder[Headers] = msgspec.json.Decoder(Headers)


def from_json(body: bytes) -> Headers:
    """Return the event in the *body* of a text/event-json message; raises `PeerError` if it is none.

    Values may hold bytes that are not UTF-8 (FreeSWITCH passes on what it was given); they are
    replaced.
    """
    try:
        try:
            return _json.decode(body)
        except UnicodeDecodeError:
            return _json.decode(body.decode("utf-8", "replace"))
    except msgspec.DecodeError as why:
        raise PeerError(f"an event that is no JSON: {why}")


def from_plain(body: bytes) -> Headers:
    """Return the event in the *body* of a text/event-plain message.

    Values are url-encoded once.  What FreeSWITCH can't tell apart there can't be told apart here: a
    value ``a%20b`` from ``a b``, an array of one element from that element (recorded: in_event_plain).
    """
    head, _, inner = body.partition(b"\n\n")
    event: Headers = {}
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            text = unquote_to_bytes(value.removeprefix(b" ")).decode("utf-8", "replace")
            event[name.decode("utf-8", "replace")] = (
                text.removeprefix("ARRAY::").split("|:") if text.startswith("ARRAY::") else text
            )
    if inner:
        event["_body"] = inner.decode("utf-8", "replace")
    return event
