"""Sounds: how long they last, and the generator that plays them inside an application.

Streams, file lists and `say:` as in out_execute, out_speak and driving-calls.md, section 2; what a broken one leaves behind as in
out_break: FreeSWITCH reads 16384 samples ahead, and counts those.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from typing import TYPE_CHECKING

from plivotx.emulator.dialstring import integer, separate
from plivotx.emulator.runner import Wait

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel

SECONDS_PER_CHARACTER = 0.05
"""How fast the emulated voice speaks."""

Playing = Generator[Wait, str, str]
"""Something that plays; its value is `done`, `missing`, or what its wait was ended by."""

_TONE = re.compile(r"%\(\s*([0-9]+)\s*,\s*([0-9]+)\s*,")
_ROUNDS = re.compile(r"(?:^|;)L=([0-9]+)", re.IGNORECASE)
_FRAME = 0.02
_AHEAD = 2.048
_MOST = 128  # parts; the last one holds all the rest
_GAP = 0.25  # a part of a file_string that is missing (out_execute)


def length(path: str, sounds: dict[str, float]) -> float | None:
    """How many seconds a sound lasts; infinite for a stream without end, None if there is no such file."""
    if path in sounds:
        return sounds[path]
    scheme, _, rest = path.partition("://")
    if scheme == "silence_stream":
        milliseconds = integer(rest.partition(",")[0])
        return math.inf if milliseconds <= 0 else milliseconds / 1000
    if scheme == "tone_stream":
        tones, _, options = rest.partition(";loops=")
        once = sum(integer(on) + integer(off) for on, off in _TONE.findall(tones)) / 1000
        inner = _ROUNDS.search(tones)
        once *= max(integer(inner[1]), 1) if inner else 1
        loops = integer(options) if options else 1
        return math.inf if loops < 0 and once else once * max(loops, 1)
    if scheme == "file_string":
        parts = [length(part, sounds) for part in rest.split("!")]
        found = [part for part in parts if part is not None]
        return sum(found) + _GAP * (len(parts) - len(found)) if found else None
    return None


def voice(channel: Channel, engine: str | None, name: str | None) -> bool:
    """Whether there is such a voice."""
    return name in channel.switch.voices.get(engine or "", ())


def speech(text: str) -> float:
    """How many seconds a text is spoken."""
    return len(text) * SECONDS_PER_CHARACTER


def play(channel: Channel, text: str, *, digits: str = "", deaf: bool = False) -> Playing:
    """Play a sound, or several if `playback_delimiter` is set; one that is missing is skipped."""
    delimiter = channel.get("playback_delimiter")
    how = "missing"
    for path in separate(text, delimiter[0], _MOST) if delimiter else [text]:
        ended = yield from _play(channel, path, digits, deaf)
        if ended not in {"done", "missing"}:
            return ended
        if ended == "done":
            how = "done"
    return how


def _play(channel: Channel, path: str, digits: str, deaf: bool) -> Playing:
    if path.startswith("say:"):
        if not voice(channel, channel.get("tts_engine"), channel.get("tts_voice")):
            return "missing"  # no event and no sound: the log alone says so
        channel.switch.spoken.append((channel.uuid, path[4:]))
        how = yield Wait(speech(path[4:]), digits=digits, deaf=deaf)
        return "done" if how == "time" else how
    seconds = channel.switch.length_of(path)
    if seconds is None:
        return "missing"
    kind = path.partition("://")[0] if "://" in path else "file"
    about = (("Playback-File-Type", kind), ("Playback-File-Path", path))
    channel.fire("PLAYBACK_START", *about)
    how, played = "time", 0
    if seconds > 0:
        frames = seconds if math.isinf(seconds) else math.ceil(seconds / _FRAME - 1e-9) * _FRAME
        how = yield Wait(None if math.isinf(seconds) else frames, digits=digits, deaf=deaf)
        played = round(min(channel.runner.waited, seconds) * 1000)
    read = min(math.ceil(max(played, 1) / 1000 / _AHEAD) * _AHEAD, seconds)
    milliseconds = round(read * 1000)
    channel.variables["playback_last_offset_pos"] = str(played * 8)
    channel.variables["playback_seconds"] = str(milliseconds // 1000)
    channel.variables["playback_ms"] = str(milliseconds)
    channel.variables["playback_samples"] = str(milliseconds * 8)
    channel.fire("PLAYBACK_STOP", *about, ("Playback-Status", "done" if how == "time" else "break"))
    return "done" if how == "time" else how
