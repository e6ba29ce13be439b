"""(c) Events of the switch, taken from their bytes and translated, beside `json.loads` of the same bytes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock

from benchmarks.measure import Line, middle, progress
from benchmarks.stories import said_by_the_switch
from plivotx.esl import translate
from plivotx.esl.connections import Link
from plivotx.esl.frames import FrameReader, PeerError
from plivotx.esl.session import Headers
from tests.transcripts import load, transcripts

ROUNDS = 9
SECONDS = 0.5
WANTED = 0.5


def run(folder: Path) -> list[Line]:
    """The lines of the table."""
    del folder
    lines = [_line("the emulator's", _messages(said_by_the_switch()))]
    recorded = [message for name in transcripts() for message in _recorded(name)]
    return [*lines, _line("recorded of FreeSWITCH", recorded)] if recorded else lines


def _line(whose: str, messages: list[bytes]) -> Line:
    bodies = [each.partition(b"\n\n")[2] for each in messages]
    progress(f"events: {len(messages)} {whose}, {sum(map(len, bodies)) // len(bodies):,} bytes each")

    def take(event: Headers) -> None:
        translate.now(event)
        translate.fact(event)

    link = Link("", Clock(), take)

    def ours() -> None:
        for each in messages:
            link.dataReceived(each)

    def beside() -> None:
        for each in bodies:
            json.loads(each)

    pairs = [(_rate(ours) * len(messages), _rate(beside) * len(bodies)) for _ in range(ROUNDS)]
    return Line(
        f"(c) events, {whose}",
        f"{middle([a for a, _ in pairs]):,.0f}/s of CPU",
        f"json.loads {middle([b for _, b in pairs]):,.0f}/s",
        f"{middle([a / b for a, b in pairs]):.2f}",
        f">= {WANTED}",
    )


def _rate(work: Callable[[], None]) -> float:
    """How often it is done in a second of CPU."""
    times, began = 0, time.process_time()
    while (spent := time.process_time() - began) < SECONDS:
        work()
        times += 1
    return times / spent


def _recorded(name: str) -> list[bytes]:
    """The events of channels in a recording."""
    received: dict[str, bytes] = {}
    for line in load(name):
        if line.dir == "recv":
            received[line.peer] = received.get(line.peer, b"") + line.data
    found = []
    for data in received.values():
        try:
            found += _messages(data)
        except PeerError:
            continue  # recordings of what is broken are of no use here
    return found


def _messages(data: bytes) -> list[bytes]:
    """Each message with an event of a channel, as it was sent."""
    return [
        b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(frame.body), frame.body)
        for frame in FrameReader().feed(data)
        if frame.headers.get("Content-Type") == "text/event-json" and b'"Unique-ID"' in frame.body
    ]
