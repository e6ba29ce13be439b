"""Bytes of an event socket to frames: where one message of FreeSWITCH ends and the next begins.

A frame is header lines, an empty line, and a body if there is a Content-Length.  What a frame means
is the business of `plivotx.esl.session`.
"""

from collections.abc import Iterator

import msgspec

MAX_HEAD_BYTES = 1 << 20
"""Longest head that is read.  The longest that FreeSWITCH has reason to send is the reply to
`connect`, which holds all variables of a channel (recorded: out_connect, 5 kB)."""
MAX_BODY_BYTES = 64 << 20
"""Longest body that is read.  The longest we ask for is `show channels as json`, 860 bytes a channel."""


class PeerError(Exception):
    """FreeSWITCH broke the event-socket format.  Close the connection and connect again."""


class Frame(msgspec.Struct, frozen=True):
    """One message of FreeSWITCH."""

    headers: dict[str, str]
    """Names as they were sent.  The first of several headers with one name counts: FreeSWITCH writes
    its own headers (Content-Type, Content-Length) before those that hold somebody's text."""
    body: bytes = b""


class FrameReader:
    """Cuts the bytes of one connection into frames; takes time in proportion to their number."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no head ends before this index
        self._head: dict[str, str] | None = None  # of the frame whose body is awaited
        self._length = 0  # of that body

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take *data*, and return an iterator over the frames that are complete.

        A frame that the caller does not fetch is the first one of the next iterator.  The iterator
        raises `PeerError` at what is no frame, after the good ones before it and ever after.
        """
        self._buffer += data
        return iter(self._next, None)

    def _next(self) -> Frame | None:
        if self._head is None:
            line_end = self._buffer.find(b"\n\n", self._searched, MAX_HEAD_BYTES + 2)
            if line_end < 0:
                if len(self._buffer) >= MAX_HEAD_BYTES + 2:
                    raise PeerError(f"a head of more than {MAX_HEAD_BYTES} bytes")
                self._searched = max(len(self._buffer) - 1, 0)
                return None
            head = headers(self._buffer[:line_end])
            self._length = body_length(head)
            self._head = head
            self._searched = 0
            del self._buffer[: line_end + 2]
        if len(self._buffer) < self._length:
            return None
        frame = Frame(self._head, bytes(self._buffer[: self._length]))
        del self._buffer[: self._length]
        self._head = None
        return frame


def headers(head: bytes | bytearray) -> dict[str, str]:
    """Return the headers of a *head* without its empty line.

    Lines end with LF alone; one without a colon is left out.  One blank after the colon is dropped.
    Text that is not UTF-8 is replaced, which never takes an LF along.
    """
    found: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name, value.removeprefix(" "))
    return found


def body_length(head: dict[str, str]) -> int:
    """Return how many bytes follow this *head*; raises `PeerError` if that is no sane number."""
    text = head.get("Content-Length", "0")
    # not int() alone: it takes "-1", "+1", " 1", "1_000" and digits of other scripts
    if not (text.isascii() and text.isdigit()):
        raise PeerError(f"a Content-Length of {text[:40]!r}")
    # the length first: int() refuses thousands of digits with a ValueError
    if len(text) > 20 or int(text) > MAX_BODY_BYTES:
        raise PeerError(f"a Content-Length of {text[:40]}, more than {MAX_BODY_BYTES}")
    return int(text)
