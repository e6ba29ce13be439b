"""The applications a channel can run; what is missing here hangs up the call, as an unknown application does.

Responses and lengths by the recordings call_sendmsg_inbound, out_break, out_speak, orig_inline_exten and by
driving-calls.md, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plivotx.emulator.causes import cause as read_cause
from plivotx.emulator.dialstring import integer, separate, true
from plivotx.emulator.digits import read as read_digits
from plivotx.emulator.keys import play_and_get_digits, read
from plivotx.emulator.recording import record, record_session, stop_record_session, terminators
from plivotx.emulator.runner import Body, Wait
from plivotx.emulator.sounds import play, speech, voice

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel

Application = Callable[["Channel", str], Body]


def _park(channel: Channel, _: str) -> Body:
    channel.fire("CHANNEL_PARK")
    how = "time"
    while how not in {"hangup", "transfer"}:
        how = yield Wait()
    channel.fire("CHANNEL_UNPARK")
    return None


def _playback(channel: Channel, argument: str) -> Body:
    channel.set("playback_terminator_used", None)
    how = yield from play(channel, argument, digits=terminators(channel))
    _note_key(channel, how)
    if how in {"hangup", "transfer"} or not argument:
        return "PLAYBACK ERROR"
    return "FILE NOT FOUND" if how == "missing" else "FILE PLAYED"


def _note_key(channel: Channel, how: str) -> None:
    if how == "digit":
        channel.set("playback_terminator_used", channel.runner.key)


def _speak(channel: Channel, argument: str) -> Body:
    parts = separate(argument, "|", 3)  # a pair of apostrophes disappears here (switch_separate_string)
    engine, name = channel.get("tts_engine"), channel.get("tts_voice")
    if len(parts) > 1:
        name = parts[-2]
    if len(parts) > 2:
        engine = parts[0]
    text = parts[-1]
    channel.set("playback_terminator_used", None)
    if text and voice(channel, engine, name):
        channel.switch.spoken.append((channel.uuid, text))
        how = yield Wait(speech(text), digits=terminators(channel))
        _note_key(channel, how)
    return None  # an unknown engine or voice ends at once and says nothing (out_speak)


def _say(channel: Channel, argument: str) -> Body:
    words = separate(argument, " ", 4)
    if len(words) == 4 and words[0] in channel.switch.languages:
        how = yield Wait(speech(words[3]), digits=terminators(channel))
        _note_key(channel, how)
    return None  # no sound files: it ends at once (out_speak)


def _sleep(channel: Channel, argument: str) -> Body:
    seconds = integer(argument) / 1000
    if seconds > 0:
        # keys stay in the channel's queue unless it is told to eat them
        yield Wait(seconds, pauses=False, deaf=not true(channel.get("sleep_eat_digits")))
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


def _queue_dtmf(channel: Channel, argument: str) -> Body:
    for digit in read_digits(argument):
        if not digit.pause:
            channel.keys.append(digit)  # taken by what runs next
    return None
    yield Wait()


def _flush_dtmf(channel: Channel, _: str) -> Body:
    channel.keys.clear()
    return None
    yield Wait()


def _transfer(channel: Channel, argument: str) -> Body:
    words = separate(argument, " ", 3)
    if words:
        channel.switch.transfer(channel, *words)
    return None
    yield Wait()


APPLICATIONS: dict[str, Application] = {
    "answer": _answer,
    "detect_speech": _nothing,  # there is no speech module: it ends at once
    "eval": _nothing,
    "export": _set,
    "flush_dtmf": _flush_dtmf,
    "hangup": _hangup,
    "info": _nothing,
    "log": _nothing,
    "multiset": _multiset,
    "park": _park,
    "play_and_get_digits": play_and_get_digits,
    "playback": _playback,
    "pre_answer": _nothing,
    "push": _push,
    "queue_dtmf": _queue_dtmf,
    "read": read,
    "record": record,
    "record_session": record_session,
    "ring_ready": _nothing,
    "say": _say,
    "sched_hangup": _sched_hangup,
    "send_dtmf": _send_dtmf,
    "set": _set,
    "sleep": _sleep,
    "speak": _speak,
    "start_dtmf": _nothing,
    "stop_dtmf": _nothing,
    "stop_record_session": stop_record_session,
    "transfer": _transfer,
    "unset": _unset,
}
