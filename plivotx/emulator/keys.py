"""Collecting keys: play_and_get_digits and read, by the recordings out_digits_* and driving-calls.md ("GetDigits")."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plivotx.emulator.dialstring import integer, separate
from plivotx.emulator.runner import Body, Wait
from plivotx.emulator.sounds import play

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel

ALL = "0123456789*#ABCDabcdFf"


@dataclass(frozen=True)
class _Wanted:
    """What is to be read; seconds."""

    least: int
    most: int
    prompt: str
    first: float
    between: float
    terminators: str


def play_and_get_digits(channel: Channel, argument: str) -> Body:
    """`MIN MAX TRIES TIMEOUT TERMINATORS PROMPT INVALID VARIABLE REGEX [DIGIT_TIMEOUT]`; with less it ends at once."""
    words = separate(argument, " ", 16)
    if len(words) < 7:
        return None
    words += [""] * (10 - len(words))
    least, most, tries, timeout = (integer(word) for word in words[:4])
    variable, expression = words[7], words[8]
    between = integer(words[9])
    wanted = _Wanted(
        max(least, 0),
        most if most > 0 else 128,
        words[5],
        max(timeout, 0) / 1000,
        (between if between > 0 else max(timeout, 0)) / 1000,
        words[4],
    )
    for name in (variable, variable + "_invalid"):
        if variable:
            channel.set(name, None)
    for _ in range(max(tries, 1)):
        channel.keys.clear()  # what was pressed before is lost, without an event
        typed, how = yield from _read(channel, wanted, variable)
        if how in {"hangup", "transfer"}:
            if variable:
                channel.set(variable, None)
            return None
        if not typed and wanted.least == 0:
            return None
        if typed and len(typed) >= wanted.least:
            if _matches(expression, typed):
                return None
            if variable:
                channel.set(variable + "_invalid", typed)
        if variable:
            channel.set(variable, None)
        if words[6]:
            # keys pressed meanwhile stay in the queue, and are lost at the next try
            how = yield from play(channel, words[6], deaf=True)
            if how in {"hangup", "transfer"}:
                return None
    return None


def read(channel: Channel, argument: str) -> Body:
    """`MIN MAX SOUND VARIABLE TIMEOUT TERMINATORS [DIGIT_TIMEOUT]`."""
    words = separate(argument, " ", 8)
    if len(words) < 4:
        return None
    words += [""] * (7 - len(words))
    seconds = max(integer(words[4]), 0) / 1000
    between = integer(words[6]) / 1000
    most = integer(words[1])
    wanted = _Wanted(
        max(integer(words[0]), 0),
        most if most > 0 else 128,
        words[2],
        seconds,
        between if between > 0 else seconds,
        words[5],
    )
    yield from _read(channel, wanted, words[3])
    return None


def _read(channel: Channel, wanted: _Wanted, variable: str) -> Generator[Wait, str, tuple[str, str]]:
    """One try (switch_ivr_read): the keys without the terminator, and how the last wait ended."""
    channel.set("read_result", None)
    if variable:
        channel.set(variable, None)
    typed = terminator = ""
    how = yield from play(channel, wanted.prompt, digits=ALL)
    if how == "missing":
        return "", how  # read_result is not even set (out_digits_timeout)
    if how in {"done", "break"}:
        how = "prompted"
    while True:
        if how == "digit":
            if channel.runner.key in wanted.terminators:
                terminator = channel.runner.key
                channel.set("read_terminator_used", terminator)
            else:
                typed += channel.runner.key
        elif how != "prompted":
            break
        if terminator or len(typed) >= wanted.most:
            break
        # uuid_break ends the prompt, but not the wait for keys
        seconds = wanted.between if typed else wanted.first
        how = yield Wait(seconds or None, digits=ALL, breakable=False)
    if len(typed) < wanted.least or how in {"hangup", "transfer"}:
        channel.set("read_result", "failure")
    else:
        channel.set("read_result", "timeout" if how == "time" else "success")
    if variable:
        channel.set(variable, typed)
    return typed, how


def _matches(expression: str, typed: str) -> bool:
    if not expression:
        return True
    try:
        return re.search(expression, typed) is not None
    except re.error:
        return False
