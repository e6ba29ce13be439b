"""Keys: digit strings as FreeSWITCH reads them, and those on their way to the far end.

`switch_core_session_send_dtmf_string` (switch_core_io.c) reads the strings.  The pace was measured at a party that timed each
packet: a digit lasts whole frames, between two of them there are 0.4 s (ten times `rtp_digit_delay` ms), and `w` and `W` are
silent for 0.5 and 1 s beyond that.
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
_DELAY = 40  # rtp-digit-delay of the profile

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
    source: str = "APP"
    """Where a key came from: `RTP`, or `APP` for uuid_recv_dtmf."""

    @property
    def pause(self) -> bool:
        """Whether nothing is sent: `w` waits 0.5 s, `W` 1 s."""
        return self.digit in _PAUSES

    @property
    def sounding(self) -> float:
        """How long it sounds, in whole frames."""
        return math.ceil(self.seconds / FRAME - 1e-9) * FRAME


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
    info: bool = False
    """Whether it came as SIP INFO: one that listens to the audio does not hear it."""


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


def silence(channel: Channel) -> float:
    """Seconds between two digits of a channel."""
    delay = integer(channel.get("rtp_digit_delay"))
    return (delay if delay > 0 else _DELAY) / 100


class Outgoing:
    """The digits that one channel has still to send: they go out while somebody serves its audio."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queue: deque[Digit] = deque()
        self._busy = False
        self._free_at = 0.0
        self.info_only = False
        """Whether there is no audio to send them in, whatever the channel thinks."""

    def send(self, digits: Iterable[Digit]) -> None:
        """Take digits; without audio yet they are sent as SIP INFO, all at once (measured)."""
        channel = self._channel
        if channel.has_audio and not self.info_only:
            self._queue.extend(digits)
            self.serve()
            return
        for digit in digits:
            if not digit.pause:
                channel.switch.far_end_hears(channel, digit, info=True)

    def serve(self) -> None:
        """Go on; while the channel is still dialled (early media that is ignored) nobody serves it."""
        channel = self._channel
        if self._busy or not self._queue or channel.originating or not channel.up:
            return
        self._busy = True
        digit = self._queue.popleft()
        now = channel.switch.clock.seconds()
        starts = max(self._free_at, now + FRAME)
        if digit.pause:
            self._free_at = starts + digit.seconds
            channel.switch.later(self._free_at - now, self._go_on)
        else:
            self._free_at = starts + digit.sounding + silence(channel)
            channel.switch.later(starts + digit.sounding - now, self._sent, digit)

    def _sent(self, digit: Digit) -> None:
        if self._channel.up:
            self._channel.switch.far_end_hears(self._channel, digit, info=False)
        self._go_on()

    def _go_on(self) -> None:
        self._busy = False
        self.serve()
