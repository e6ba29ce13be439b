"""Keys: digit strings as FreeSWITCH reads them, and those on their way to the far end.

`switch_core_session_send_dtmf_string` (switch_core_io.c) reads the strings; the pace is that of the recordings call_dtmf and
call_dtmf_from_far_end, where the far end took its digits about 0.28 s apart, each at its own end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plivotx.emulator.dialstring import integer

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel

FRAME = 0.02
PAUSE = 0.28
"""Seconds of silence behind a digit."""

_KNOWN = "0123456789*#ABCDabcdwWFf"
_PAUSES = {"w": 0.5, "W": 1.0}
_DEFAULT = 0.25  # 2000 samples
_SHORTEST, _LONGEST = 0.05, 24.0  # 400 and 192000 samples
_MOST = 99  # characters: a longer string is ignored as a whole


@dataclass(frozen=True)
class Digit:
    """One digit, or a pause: `w` or `W`."""

    digit: str
    seconds: float

    @property
    def pause(self) -> bool:
        """Whether nothing is sent: `w` waits 0.5 s, `W` 1 s."""
        return self.digit in _PAUSES


@dataclass(frozen=True)
class Heard:
    """A digit that a far end heard."""

    uuid: str
    """Our leg's."""
    digit: str
    seconds: float
    """How long it sounded."""
    at: float
    """When it ended, seconds of the clock."""
    answered: bool
    """Whether the far end had answered by then."""


def read(text: str) -> tuple[Digit, ...]:
    """Read `DIGITS[@MS][+DIGITS[@MS]...]`; what is no digit is left out, and nothing is left if only pauses are.

    Up to 50 ms the duration is not taken, beyond 24 s it is cut.
    """
    if len(text) > _MOST:
        return ()
    found: list[Digit] = []
    for part in text.removeprefix("~").split("+"):
        digits, _, duration = part.partition("@")
        seconds = integer(duration) / 1000
        seconds = min(seconds, _LONGEST) if seconds > _SHORTEST else _DEFAULT
        found += [Digit(digit, _PAUSES.get(digit, seconds)) for digit in digits if digit in _KNOWN]
    return tuple(found) if any(not digit.pause for digit in found) else ()


class Outgoing:
    """The digits that one channel has still to send: they go out while somebody serves its audio."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queue: deque[Digit] = deque()
        self._busy = False

    def send(self, digits: Iterable[Digit]) -> None:
        """Take digits; without any audio yet they are lost."""
        if self._channel.has_audio:
            self._queue.extend(digits)
            self.serve()

    def serve(self) -> None:
        """Go on; while the channel is still dialled (early media that is ignored) nobody serves it."""
        channel = self._channel
        if self._busy or not self._queue or channel.originating or not channel.up:
            return
        self._busy = True
        digit = self._queue.popleft()
        seconds = digit.seconds if digit.pause else FRAME + math.ceil(digit.seconds / FRAME - 1e-9) * FRAME
        channel.switch.later(seconds, self._sent, digit)

    def _sent(self, digit: Digit) -> None:
        channel = self._channel
        if not digit.pause and channel.up:
            channel.switch.far_end_hears(channel, digit)
        channel.switch.later(0.0 if digit.pause else PAUSE - FRAME, self._free)

    def _free(self) -> None:
        self._busy = False
        self.serve()
