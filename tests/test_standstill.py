"""A reactor that does not turn is told of once, with the code that keeps it, and so is that it goes on."""

import sys
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx import standstill
from plivotx.standstill import LIMIT, LOOKS, News, Standstill, Watcher, culprit

TICK = LIMIT / LOOKS
PLUGIN = "/srv/verbs/slow.py"


class Counting(SynchronousTestCase):
    def setUp(self):
        self.now = self.busy = 0.0
        self.turns = 0
        self.standstill = Standstill(LIMIT, 0.0, 0.0)

    def look(self, after=TICK, *, turns=0, busy=0.0):
        self.now += after
        self.busy += busy
        self.turns += turns
        return self.standstill.look(self.turns, self.now, self.busy)

    def test_tells_each_standstill_once_and_how_long_it_lasted(self):
        for _ in range(2):
            self.assertEqual([self.look(turns=1) for _ in range(20)], [None] * 20)
            told = [(each, self.look()) for each in range(1, 41)]
            self.assertEqual([each for each in told if each[1]], [(LOOKS, News("stands", LIMIT))])
            self.assertEqual(self.look(turns=1), News("goes on", 41 * TICK))

    def test_says_nothing_of_what_is_shorter(self):
        for _ in range(10):
            self.assertEqual([self.look() for _ in range(LOOKS - 1)], [None] * (LOOKS - 1))
            self.assertIsNone(self.look(after=TICK / 2, turns=1))

    def test_does_not_count_what_machine_or_process_were_stopped_for(self):
        self.assertIsNone(self.look(after=3600.0))
        self.assertIsNone(self.look(turns=1))
        self.assertIsNone(self.look(after=3600.0, turns=1))
        for _ in range(2):  # what it is stopped in goes on counting afterwards
            self.assertIsNone(self.look(after=3600.0))
        self.assertEqual([self.look() for _ in range(LOOKS - 4)][-1], News("stands", LIMIT))

    def test_counts_code_that_lets_no_other_thread_look(self):
        self.assertEqual(self.look(after=7.0, busy=7.0), News("stands", 7.0))
        self.assertEqual(self.look(turns=1), News("goes on", 7.0 + TICK))
        self.assertEqual(self.look(after=7.0, busy=7.0, turns=1), News("goes on", 7.0))

    def test_a_look_that_comes_late_while_all_goes_on_finds_nothing(self):
        self.assertIsNone(self.look(after=7.0, busy=7.0, turns=28))

    @given(
        st.lists(
            st.tuples(st.floats(0.001, 100), st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=60
        )
    )
    def test_what_is_told_takes_turns_and_lasted_long_enough(self, looks):
        self.setUp()
        told = []
        for after, turns, share in looks:
            news = self.look(after, turns=turns, busy=after * share)
            if news is None:
                continue
            self.assertGreaterEqual(news.seconds, LIMIT)
            self.assertLessEqual(news.seconds, self.now + 1e-6)
            self.assertEqual(news.what == "goes on", turns > 0)
            self.assertFalse(news.what == "stands" == (told[-1] if told else ""), "told twice")
            told.append(news.what)


def calling(name, inner, *, then="found.append(sys._getframe())"):
    """A function of the file *name* that calls *inner*, or, if there is none, notes its own frame."""
    source = f"def work(found):\n    if True:\n        {'inner(found)' if inner else then}\n"
    space = {"sys": sys, "inner": inner}
    exec(compile(source, name, "exec"), space)
    return space["work"]


class Culprit(SynchronousTestCase):
    def found(self, *files):
        """What is said of code in these files, each called by the one before it."""
        work = None
        for each in reversed(files):
            work = calling(each, work)
        frames = []
        work(frames)
        return culprit(frames[0], {PLUGIN, "/srv/verbs/other.py"})

    def test_is_the_innermost_code_of_a_plugin(self):
        ours = str(Path(standstill.__file__).with_name("engine.py"))
        self.assertEqual(
            self.found(ours, "/srv/verbs/other.py", PLUGIN, "/lib/socket.py", "/lib/ssl.py"),
            f"plugin {PLUGIN}, line 3, in work",
        )
        self.assertEqual(self.found(PLUGIN, ours), f"plugin {PLUGIN}, line 3, in work")

    def test_is_ours_or_just_the_innermost_where_no_plugin_is_at_work(self):
        outer, inner = (str(Path(standstill.__file__).with_name(each)) for each in ("engine.py", "server.py"))
        self.assertEqual(self.found(outer, inner, "/lib/json.py"), f"{inner}, line 3, in work")
        frames = []
        calling("/lib/json.py", None)(frames)
        (frame,) = frames
        while frame.f_back:
            frame = frame.f_back
        self.assertNotIn("plugin ", culprit(frame, {PLUGIN}))
        self.assertIn(frame.f_code.co_filename, culprit(frame, {PLUGIN}))


class Watching(TestCase):
    timeout = 30

    async def test_a_plugin_that_blocks_is_named_while_it_does_and_the_end_of_it_is_told(self):
        said, told, over = [], threading.Event(), Deferred()

        def hear(event):
            if event["log_namespace"] != standstill.__name__:
                return
            said.append((event["log_level"].name, formatEvent(event), threading.current_thread().name))
            if len(said) == 1:
                told.set()
            else:
                reactor.callFromThread(over.callback, None)

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        watcher = Watcher(reactor, [PLUGIN], limit=0.2)
        watcher.start()
        self.addCleanup(watcher.stop)
        blocks = calling(PLUGIN, None, then="found.wait(20)")
        blocks(told)  # until the line is there: nothing else of this thread could have written it
        await over
        (stands, goes_on) = said
        self.assertEqual((stands[0], stands[2]), ("error", "standstill"))
        self.assertRegex(
            stands[1],
            rf"^the server stands still, for \d\.\d s now: plugin {PLUGIN}, line 3, in work; nothing else is done",
        )
        self.assertEqual(goes_on[0], "warn")
        self.assertRegex(goes_on[1], r"^the server goes on; it stood still for \d\.\d s$")
        watcher.stop()
        for each in threading.enumerate():
            if each.name == "standstill":
                each.join(20)
                self.assertFalse(each.is_alive())
