"""Recording: what the far end sends, the application `record`, and recordings of a session beside everything else.

No file is written; `switch.recordings` says what would be in it.  By the recordings out_record*, call_record and
driving-calls.md, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plivotx.emulator.dialstring import integer, separate, true
from plivotx.emulator.runner import Body, Wait

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from plivotx.emulator.channel import Channel

_FRAME = 0.02
_START = 0.01  # until the session's audio passes the new recording
_EXTENSIONS = frozenset(("al", "au", "gsm", "mp3", "mp4", "ogg", "raw", "r8", "r16", "ul", "wav", "WAV"))
_HEADER = 44  # bytes of a wav file before its samples


class Audio:
    """What a far end sends, by time: `talk`, `hush` (audio, but silence) or `mute` (nothing: a parked far end sends no RTP)."""

    def __init__(self) -> None:
        self._changes: list[tuple[float, str]] = [(-math.inf, "mute")]

    def change(self, at: float, kind: str) -> None:
        """From now on it is this."""
        self._changes.append((at, kind))

    def received(self, start: float, end: float) -> float:
        """How many seconds of audio came in between."""
        ends = [at for at, _ in self._changes[1:]] + [math.inf]
        spans = (
            max(0.0, min(until, end) - max(since, start))
            for (since, kind), until in zip(self._changes, ends, strict=True)
            if kind != "mute"
        )
        return sum(spans)

    def quiet_since(self) -> float | None:
        """Since when nobody talks; None while somebody does."""
        since: float | None = None
        for at, kind in self._changes:
            since = None if kind == "talk" else at if since is None else since
        return since


@dataclass
class Recording:
    """One recording, as `switch.recordings` keeps it; times are seconds of the clock."""

    uuid: str
    path: str
    session: bool
    """Whether it ran beside everything else (uuid_record, record_session) or was the application `record`."""
    stereo: bool
    started: float
    ended: float | None = None
    milliseconds: int = 0
    """How much audio it holds: what was received."""
    why: str = ""
    """What ended it: `time`, `silence`, the key, `break`, `stop`, `hangup` or `transfer`."""
    timer: IDelayedCall | None = None


def writable(channel: Channel, path: str) -> bool:
    """Whether a file can be recorded to: an extension that some module knows, and nothing in `switch.unwritable`."""
    known = path.rpartition("/")[2].rpartition(".")[2] in _EXTENSIONS
    return known and not any(path.startswith(start) for start in channel.switch.unwritable)


def record(channel: Channel, argument: str) -> Body:
    """`FILE [LIMIT [THRESHOLD [SILENCE]]]`, seconds; a file that cannot be opened, or a transfer, hangs up."""
    words = separate(argument, " ", 8)
    path = words[0] if words else ""
    limit, threshold, silence = (integer(word) for word in (*words[1:], "", "", "")[:3])
    channel.set("playback_terminator_used", None)
    if not writable(channel, path):
        channel.hangup("DESTINATION_OUT_OF_ORDER", delay=0)
        return None
    channel.set("silence_hits_exhausted", "false")
    clock = channel.switch.clock
    recording = _begin(channel, path, session=False)
    codec = channel.get("read_codec")
    channel.set("read_codec", "L16")
    channel.fire("RECORD_START", ("Record-File-Path", path))
    # whole seconds of the clock count: N..N+1 seconds
    wall = channel.switch.wall()
    stop = clock.seconds() + (math.floor(wall) + limit + 1 - wall if limit > 0 else math.inf)
    how = "audio"
    while how == "audio":
        quiet = channel.audio.quiet_since() if threshold > 0 and silence > 0 else None
        hush = math.inf if quiet is None else max(quiet, recording.started) + silence - _FRAME
        until = min(stop, hush)
        seconds = None if math.isinf(until) else max(until - clock.seconds(), 0.0)
        how = yield Wait(seconds, digits=terminators(channel), audio=True)
        if how == "time" and until < stop:
            channel.set("silence_hits_exhausted", "true")
            how = "silence"
    if how == "digit":
        channel.set("playback_terminator_used", channel.runner.key)
    _end(channel, recording, channel.runner.key if how == "digit" else how)
    samples = recording.milliseconds * 8
    size = str(_size(recording))
    for name, value in (
        ("record_record_file_size", size),
        ("record_file_size", size),
        ("record_seconds", str(samples // 8000)),
        ("record_ms", str(recording.milliseconds)),
        ("record_samples", str(samples)),
    ):
        channel.set(name, value)
    channel.fire("RECORD_STOP", ("Record-File-Path", path))
    channel.set("read_codec", codec)
    if how == "transfer":
        channel.hangup("DESTINATION_OUT_OF_ORDER", delay=0)
    return None


def terminators(channel: Channel) -> str:
    """The keys that end playback, speech and recordings: `*` unless `playback_terminators` says otherwise."""
    keys = channel.get("playback_terminators")
    if keys is None:
        return "*"
    if keys == "any":
        return "0123456789*#ABCD"
    return "" if keys == "none" else keys


def start_session(channel: Channel, path: str, limit: int, *, delay: float = _START) -> bool:
    """Begin to record a session; False if the file cannot be opened.  A second one to the same file does nothing."""
    if path in channel.recordings:
        return True
    if not writable(channel, path):
        channel.set("record_completion_cause", "uri-failure")
        return False
    recording = channel.recordings[path] = _begin(channel, path, session=True)
    if delay:
        channel.switch.later(delay, _tell_start, channel, recording)
    else:
        _tell_start(channel, recording)
    if limit > 0:
        # whole seconds of the clock count: N-1..N seconds (call_record)
        wall = channel.switch.wall()
        recording.timer = channel.switch.later(
            max(math.floor(wall) + limit - wall, 0.0) + _FRAME, _limit_reached, channel, recording
        )
    return True


def stop_session(channel: Channel, recording: Recording, *, ended: bool = False, why: str = "stop") -> None:
    """End the recording of a session; `ended`: the call has ended."""
    channel.recordings.pop(recording.path, None)
    if recording.timer is not None and recording.timer.active():
        recording.timer.cancel()
    recording.timer = None
    _end(channel, recording, "hangup" if ended else why)
    samples = recording.milliseconds * 8
    cause = "success-silence" if ended else "success-maxtime"  # as recorded: it says nothing
    for name, value in (
        ("record_file_size", str(_size(recording))),
        ("record_samples", str(samples)),
        ("record_seconds", str(samples // 8000)),
        ("record_ms", str(recording.milliseconds)),
        ("record_completion_cause", cause),
    ):
        channel.set(name, value)
    channel.fire("RECORD_STOP", ("Record-File-Path", recording.path), ("Record-Completion-Cause", cause))


def record_session(channel: Channel, argument: str) -> Body:
    """`FILE [LIMIT]`: the application; it goes on if the file cannot be opened."""
    words = separate(argument, " ", 3)
    if words:
        start_session(channel, words[0], integer(words[1]) if len(words) > 1 else 0, delay=0.0)
    return None
    yield Wait()


def stop_record_session(channel: Channel, argument: str) -> Body:
    """`FILE` or `all`."""
    for recording in find(channel, argument):
        stop_session(channel, recording)
    return None
    yield Wait()


def find(channel: Channel, path: str) -> list[Recording]:
    """The running recordings of a session that a path or `all` names."""
    if path.lower() == "all":
        return list(channel.recordings.values())
    return [channel.recordings[path]] if path in channel.recordings else []


def _begin(channel: Channel, path: str, *, session: bool) -> Recording:
    recording = Recording(
        channel.uuid,
        path,
        session,
        session and true(channel.get("RECORD_STEREO")),
        channel.switch.clock.seconds(),
    )
    channel.switch.recordings.append(recording)
    return recording


def _end(channel: Channel, recording: Recording, why: str) -> None:
    recording.ended = channel.switch.clock.seconds()
    recording.why = why
    received = channel.audio.received(recording.started, recording.ended)
    frames = round(received / _FRAME)
    if frames and not recording.session and why not in {"time", "silence"}:
        frames -= 1  # the frame in which it is broken off is not written (out_record)
    recording.milliseconds = frames * 20


def _size(recording: Recording) -> int:
    return _HEADER + recording.milliseconds * 16 * (2 if recording.stereo else 1)


def _tell_start(channel: Channel, recording: Recording) -> None:
    if recording.ended is None and channel.up:
        channel.fire("RECORD_START", ("Record-File-Path", recording.path))


def _limit_reached(channel: Channel, recording: Recording) -> None:
    if recording.ended is None:
        stop_session(channel, recording, why="time")
