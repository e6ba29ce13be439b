"""The applications a channel can run; what is missing here hangs up the call, as an unknown application does.

Responses and lengths by the recordings call_sendmsg_inbound, out_break, out_speak, orig_inline_exten and by
driving-calls.md, section 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from plivotx.emulator.causes import cause as read_cause
from plivotx.emulator.dialstring import integer, separate
from plivotx.emulator.runner import Body, Wait

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel

Application = Callable[["Channel", str], Body]

SECONDS_PER_CHARACTER = 0.05
"""How fast the emulated voice speaks."""

_TONE = re.compile(r"%\(\s*([0-9]+)\s*,\s*([0-9]+)\s*,")


def _park(channel: Channel, _: str) -> Body:
    channel.fire("CHANNEL_PARK")
    how = "time"
    while how not in {"hangup", "transfer"}:
        how = yield Wait()
    channel.fire("CHANNEL_UNPARK")
    return None


def _playback(channel: Channel, argument: str) -> Body:
    delimiter = channel.get("playback_delimiter")
    paths = argument.split(delimiter) if delimiter else [argument]
    response = None
    for path in paths:
        seconds = channel.switch.length_of(path, channel)
        if seconds is None:
            if len(paths) == 1:
                return "FILE NOT FOUND"
            continue  # a missing part is skipped (driving-calls.md)
        response = yield from _play(channel, path, seconds)
        if response != "FILE PLAYED":
            break
    return response or "FILE NOT FOUND"


def _play(channel: Channel, path: str, seconds: float) -> Body:
    kind = path.partition("://")[0] if "://" in path else "file"
    about = (("Playback-File-Type", kind), ("Playback-File-Path", path))
    channel.set("playback_terminator_used", None)
    channel.fire("PLAYBACK_START", *about)
    started = channel.switch.clock.seconds()
    how = "time"
    if seconds > 0:
        keys = _terminators(channel)
        how = yield Wait(None if math.isinf(seconds) else seconds, digits=keys)
    milliseconds = round(min(channel.switch.clock.seconds() - started, seconds) * 50) * 20
    channel.variables["playback_last_offset_pos"] = str(milliseconds * 8)
    channel.variables["playback_seconds"] = str(milliseconds // 1000)
    channel.variables["playback_ms"] = str(milliseconds)
    channel.variables["playback_samples"] = str(milliseconds * 8)
    status = "done" if how == "time" else "break"
    channel.fire("PLAYBACK_STOP", *about, ("Playback-Status", status))
    return "PLAYBACK ERROR" if how in {"hangup", "transfer"} else "FILE PLAYED"


def _terminators(channel: Channel) -> str:
    keys = channel.get("playback_terminators")
    if keys is None:
        return "*"
    if keys == "any":
        return "0123456789*#ABCD"
    return "" if keys == "none" else keys


def _speak(channel: Channel, argument: str) -> Body:
    parts = argument.split("|", 2)
    text = parts[-1]
    if len(parts) == 3 and parts[0] not in channel.switch.voices:
        return None  # an unknown engine ends at once and says nothing (driving-calls.md)
    yield Wait(len(text) * SECONDS_PER_CHARACTER, digits=_terminators(channel))
    return None


def _say(channel: Channel, argument: str) -> Body:
    words = separate(argument, " ", 4)
    if len(words) == 4:
        yield Wait(len(words[3]) * SECONDS_PER_CHARACTER, digits=_terminators(channel))
    return None


def _sleep(_: Channel, argument: str) -> Body:
    seconds = integer(argument) / 1000
    if seconds > 0:
        yield Wait(seconds, pauses=False)
    return None


def _hangup(channel: Channel, argument: str) -> Body:
    channel.hangup(read_cause(argument or None), delay=0)
    return None
    yield Wait()  # makes it a generator


def _answer(channel: Channel, _: str) -> Body:
    if channel.direction == "inbound":
        channel.answer()
    return None
    yield Wait()


def _nothing(_: Channel, __: str) -> Body:
    return None
    yield Wait()


def _set(channel: Channel, argument: str) -> Body:
    assign(channel, argument)
    return None
    yield Wait()


def assign(channel: Channel, text: str) -> None:
    """Set `name=value`, expanded whatever app_disable_expand_variables says (NOTES.md, section 3)."""
    name, equals, value = text.partition("=")
    if not equals:
        name, _, value = text.partition(",")
    channel.set(name, channel.runner.expand(value))


def _multiset(channel: Channel, argument: str) -> Body:
    delimiter, text = " ", argument
    if argument.startswith("^^") and len(argument) > 3:
        delimiter, text = argument[2], argument[3:]
    for piece in separate(text, delimiter, 256):
        assign(channel, piece)
    return None
    yield Wait()


def _unset(channel: Channel, argument: str) -> Body:
    channel.set(argument, None)
    return None
    yield Wait()


def _push(channel: Channel, argument: str) -> Body:
    name, equals, value = argument.partition("=")
    if not equals:
        name, _, value = argument.partition(",")
    channel.variables.push(name, channel.runner.expand(value))
    return None
    yield Wait()


def _sched_hangup(channel: Channel, argument: str) -> Body:
    words = separate(argument, " ", 3)
    if words:
        channel.switch.schedule_hangup(channel, words[0], words[1] if len(words) > 1 else "")
    return None
    yield Wait()


def _send_dtmf(channel: Channel, argument: str) -> Body:
    channel.switch.send_digits(channel, argument)
    return None
    yield Wait()


def length(path: str, sounds: dict[str, float], channel: Channel) -> float | None:
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
        loops = integer(options) if options else 1
        return math.inf if loops < 0 and once else once * max(loops, 1)
    if path.startswith("say:") and channel.get("tts_engine"):
        return (len(path) - len("say:")) * SECONDS_PER_CHARACTER
    return None


APPLICATIONS: dict[str, Application] = {
    "answer": _answer,
    "export": _set,
    "hangup": _hangup,
    "info": _nothing,
    "log": _nothing,
    "multiset": _multiset,
    "park": _park,
    "playback": _playback,
    "pre_answer": _nothing,
    "push": _push,
    "ring_ready": _nothing,
    "say": _say,
    "sched_hangup": _sched_hangup,
    "send_dtmf": _send_dtmf,
    "set": _set,
    "sleep": _sleep,
    "speak": _speak,
    "unset": _unset,
}
