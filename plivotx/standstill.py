"""Tell when the reactor does not turn, and whose code keeps it: a plugin that blocks stops everything.

While it stands still nothing that runs in it can say so, so a thread looks.  All is counted on the monotonic clock.
"""

import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

LIMIT = 2.0
"""Seconds without a turn that are told of; whoever waits for an answer has noticed by then."""
LOOKS = 8
"""How often one looks in that time: a standstill is told with an error of a quarter of a second."""
OURS = str(Path(__file__).parent) + "/"


class News(NamedTuple):
    """What is to be told, and for how many seconds nothing has moved, or did not."""

    what: Literal["stands", "goes on"]
    seconds: float


class Standstill:
    """Counts for how long there was no turn.  Pure: whoever looks says what time it is."""

    def __init__(self, limit: float, now: float, busy: float) -> None:
        """Count from *now*; *busy* are the seconds that the process has computed so far."""
        self._limit = limit
        self._now = now
        self._busy = busy
        self._turns = 0
        self._still = 0.0
        self._told = False

    def look(self, turns: int, now: float, busy: float) -> News | None:
        """Take note that there have been so many *turns*; gives what is to be told, each thing once."""
        # Who looks late was kept from it: by code that lets no other thread run, and computes meanwhile, which
        # counts, or because machine or process were stopped, in which case the reactor has had no chance either.
        self._still += min(now - self._now, 2 * self._limit / LOOKS + busy - self._busy)
        self._now, self._busy = now, busy
        if turns != self._turns:
            # The first turn after such code may come before any other thread gets to look.
            worth = self._told or (self._still >= self._limit and turns == self._turns + 1)
            news = News("goes on", self._still) if worth else None
            self._turns, self._told, self._still = turns, False, 0.0
            return news
        if self._told or self._still < self._limit:
            return None
        self._told = True
        return News("stands", self._still)


def culprit(frame: FrameType, plugins: Collection[str]) -> str:
    """Where the innermost code of a plugin is, among what *frame* was called by; else ours, else whatever is innermost.

    *plugins* are their files.
    """
    frames = [frame]
    while (caller := frames[-1].f_back) is not None:
        frames.append(caller)
    for each in frames:
        if each.f_code.co_filename in plugins:
            return f"plugin {_place(each)}"
    return _place(next((each for each in frames if each.f_code.co_filename.startswith(OURS)), frame))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_qualname}"


class Watcher:
    """Writes a line into the log when the reactor stands still, and one when it goes on."""

    def __init__(self, reactor: Any, plugins: Collection[str], limit: float = LIMIT) -> None:
        """Watch *reactor*, once started; *plugins* are the files of plugins, *limit* is in seconds."""
        self._plugins = frozenset(plugins)
        self._limit = limit
        self._turns = 0
        self._turning = LoopingCall(self._turn)
        self._turning.clock = reactor
        self._ended = threading.Event()
        self._watched = 0

    def start(self) -> None:
        """Begin, called by the thread of the reactor."""
        self._watched = threading.get_ident()
        self._turning.start(self._limit / LOOKS)
        threading.Thread(target=self._watch, name="standstill", daemon=True).start()

    def stop(self) -> None:
        """End; the thread does so within a moment."""
        self._ended.set()
        if self._turning.running:
            self._turning.stop()

    def _turn(self) -> None:
        self._turns += 1

    def _watch(self) -> None:
        standstill = Standstill(self._limit, time.monotonic(), time.process_time())
        while not self._ended.wait(self._limit / LOOKS):
            news = standstill.look(self._turns, time.monotonic(), time.process_time())
            if news is not None:
                self._tell(news)

    def _tell(self, news: News) -> None:
        if news.what == "goes on":
            log.warn("the server goes on; it stood still for {seconds:.1f} s", seconds=news.seconds)
            return
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - documented, in spite of its name
        log.error(
            "the server stands still, for {seconds:.1f} s now: {place}; nothing else is done until that returns",
            seconds=news.seconds,
            place=culprit(frame, self._plugins) if frame is not None else "nobody knows where",
        )
