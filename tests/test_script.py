"""A verb is replayed: the same history gives the same steps, whatever the verb does."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.events import StepEnded, StepStarted
from plivotx.restxml.script import (
    MAX_STEPS,
    Changed,
    Ended,
    Execute,
    Finish,
    Gone,
    Over,
    Start,
    Verb,
    Wait,
    Waiting,
    execute,
    replay,
)

BEEP = Execute("playback", "tone_stream://beep")
LISTEN = Execute("play_and_get_digits", "1 1", ("digit",))
MENU = Execute("playback", "menu")
PAGE = "1/0"


def started(number, command):
    return StepStarted(key=f"{PAGE}/{number}", digest=command.digest)


def ended(number, *result, failed=""):
    return StepEnded(key=f"{PAGE}/{number}", result=result, failed=failed)


def runs(*steps):
    """Where a verb stands that has these steps running: number, command, whether its start is on record."""
    return Waiting(tuple((f"{PAGE}/{number}", command, known) for number, command, known in steps))


class Menu(Verb, frozen=True, kw_only=True):
    """Asks up to three times for a key, then says the menu or ends the call."""

    tries: int = 3

    def run(self):
        for _ in range(self.tries):
            heard = yield from execute(LISTEN.app, LISTEN.arg, LISTEN.returns)
            if isinstance(heard, Gone):
                return None
            if heard.failed:
                return Finish(cause="NORMAL_TEMPORARY_FAILURE", why=heard.failed)
            if heard.vars.get("digit"):
                yield from execute(MENU.app, heard.vars["digit"])
                return None
        return Finish(cause="NO_USER_RESPONSE", why="nothing was pressed")


class Both(Verb, frozen=True, kw_only=True):
    """Lets two steps run at once, and waits for the second one first."""

    def run(self):
        first = yield Start(BEEP)
        second = yield Start(LISTEN)
        yield Wait(second)
        yield Wait(first)


def verb(body):
    """A verb of this one use, with *body* for its run."""
    return type("Odd", (Verb,), {"run": lambda self: body()}, frozen=True, kw_only=True)()


class AVerb(SynchronousTestCase):
    def test_without_a_history_begins_with_its_first_step(self):
        self.assertEqual(replay(Menu(), PAGE, ()), runs((1, LISTEN, False)))

    def test_says_which_of_its_steps_are_on_record_as_started(self):
        self.assertEqual(replay(Menu(), PAGE, (started(1, LISTEN),)), runs((1, LISTEN, True)))

    def test_takes_what_a_step_gave_and_goes_on(self):
        history = [started(1, LISTEN), ended(1), started(2, LISTEN), ended(2, ("digit", "7"))]
        self.assertEqual(replay(Menu(), PAGE, history[:2]), runs((2, LISTEN, False)))
        self.assertEqual(replay(Menu(), PAGE, history), runs((3, Execute(MENU.app, "7"), False)))
        history += [started(3, Execute(MENU.app, "7")), ended(3)]
        self.assertEqual(replay(Menu(), PAGE, history), Over(finish=None))

    def test_may_end_the_call(self):
        history = [ended(1), ended(2), ended(3)]
        self.assertEqual(
            replay(Menu(), PAGE, history),
            Over(finish=Finish(cause="NO_USER_RESPONSE", why="nothing was pressed")),
        )

    def test_hears_why_a_step_failed(self):
        self.assertEqual(
            replay(Menu(), PAGE, [ended(1, failed="no such application")]).finish.why, "no such application"
        )

    def test_that_does_nothing_is_over(self):
        self.assertEqual(replay(Menu(tries=0), PAGE, ()).finish.cause, "NO_USER_RESPONSE")

    def test_may_have_several_steps_at_once(self):
        self.assertEqual(replay(Both(), PAGE, ()), runs((1, BEEP, False), (2, LISTEN, False)))
        self.assertEqual(
            replay(Both(), PAGE, [started(1, BEEP), started(2, LISTEN), ended(1)]),
            runs((1, BEEP, True), (2, LISTEN, True)),
        )
        self.assertEqual(replay(Both(), PAGE, [ended(2)]), runs((1, BEEP, False)))
        self.assertEqual(replay(Both(), PAGE, [ended(1), ended(2)]), Over(finish=None))

    def test_gets_the_key_of_its_step_and_its_variables(self):
        seen = []

        def body():
            seen.append((yield Start(LISTEN)))
            seen.append((yield Wait(seen[0])))

        replay(verb(body), PAGE, [ended(1, ("digit", "7"), ("é", ""))])
        self.assertEqual(seen, [f"{PAGE}/1", Ended(f"{PAGE}/1", {"digit": "7", "é": ""})])


class ACallThatIsGone(SynchronousTestCase):
    def test_lets_every_wait_end_with_gone(self):
        self.assertEqual(replay(Menu(), PAGE, [started(1, LISTEN)], gone=True), Over(finish=None))

    def test_still_gives_what_had_ended_before(self):
        seen = []

        def body():
            first = yield from execute("playback")
            second = yield from execute("playback")
            seen.extend([first, second])

        replay(verb(body), PAGE, [ended(1)], gone=True)
        self.assertEqual(seen, [Ended(f"{PAGE}/1", {}), Gone()])


class AVerbThatWasChanged(SynchronousTestCase):
    def test_starts_another_command_than_is_on_record(self):
        for other in (BEEP, Execute("playback", "menu2"), Execute("play_and_get_digits", "1 1", ("digits",))):
            where = replay(Menu(), PAGE, [started(1, other)])
            self.assertEqual(
                where, Changed("step 1/0/1 is recorded with another command than play_and_get_digits")
            )

    def test_has_a_digest_that_is_the_same_for_ever(self):
        # on disk: another digest here would abandon the verbs of every live call at an upgrade
        self.assertEqual(Execute("playback", "silence_stream://1000", ("a", "b")).digest, "5bf1041c")


class AVerbThatGoesWrong(SynchronousTestCase):
    def changed(self, body, why, history=(), **more):
        where = replay(verb(body), PAGE, history, **more)
        self.assertIsInstance(where, Changed)
        self.assertIn(why, where.why)

    def test_raises_at_once_or_later(self):
        def at_once():
            raise ValueError("at once")

        def later():
            yield from execute("playback")
            raise ValueError("later")

        self.changed(at_once, "Odd raised ValueError('at once')")
        self.changed(later, "Odd raised ValueError('later')", [ended(1)])

    def test_waits_for_nothing(self):
        def body():
            yield Wait("1/0/1")

        self.changed(body, "it waits for 1/0/1, which is not running")

    def test_waits_for_the_same_step_twice(self):
        def body():
            key = yield Start(BEEP)
            yield Wait(key)
            yield Wait(key)

        self.changed(body, "it waits for 1/0/1, which is not running", [ended(1)])

    def test_yields_what_is_neither_start_nor_wait(self):
        def body():
            yield "playback"

        self.changed(body, "it yields 'playback'")

    def test_returns_what_is_no_finish(self):
        def body():
            yield from ()
            return "NORMAL_CLEARING"

        self.changed(body, "it returns 'NORMAL_CLEARING'")

    def test_forgot_to_yield(self):
        self.changed(lambda: None, "Odd raised ")

    def test_never_ends(self):
        def starting():
            while True:
                yield Start(BEEP)

        def deaf():
            while True:
                yield from execute("playback")

        self.changed(starting, f"no end within {MAX_STEPS} steps")
        self.changed(deaf, f"no end within {MAX_STEPS} steps", gone=True)

    def test_does_not_let_itself_be_closed(self):
        def stubborn():
            try:
                yield from execute("playback")
            except GeneratorExit:
                yield Start(BEEP)

        def failing():
            try:
                yield from execute("playback")
            finally:
                raise ValueError("no")

        self.changed(stubborn, "ignored GeneratorExit")
        self.changed(failing, "ValueError('no')")

    def test_is_closed_when_it_waits(self):
        closed = []

        def body():
            try:
                yield from execute("playback")
            finally:
                closed.append(True)

        replay(verb(body), PAGE, ())
        self.assertEqual(closed, [True])


STEP = st.integers(1, 4)
EVENT = (
    st.builds(started, STEP, st.sampled_from([LISTEN, LISTEN, LISTEN, BEEP, Execute(MENU.app, "7")]))
    | st.builds(ended, STEP)
    | st.builds(ended, STEP, st.just(("digit", "7")))
    | st.builds(lambda step: ended(step, failed="gone wrong"), STEP)
)


class AnyHistory(SynchronousTestCase):
    @given(st.sampled_from([Menu(), Menu(tries=1), Both()]), st.lists(EVENT, max_size=12), st.booleans())
    def test_gives_the_same_each_time_at_every_point_of_it(self, verb, history, gone):
        for length in range(len(history) + 1):
            first = replay(verb, PAGE, history[:length], gone=gone)
            self.assertEqual(first, replay(verb, PAGE, tuple(history[:length]), gone=gone))
            if gone:
                self.assertNotIsInstance(first, Waiting)
            if isinstance(first, Over | Changed):
                continue
            done = {each.key for each in history[:length] if isinstance(each, StepEnded)}
            self.assertTrue(any(key not in done for key, _, _ in first.running))

    @given(st.lists(EVENT, max_size=12))
    def test_that_ended_a_verb_has_ended_it_whatever_is_heard_later(self, history):
        ends = [replay(Menu(), PAGE, history[:length]) for length in range(len(history) + 1)]
        for before, after in pairwise(ends):
            if isinstance(before, Over):
                self.assertIsInstance(after, Over | Changed)
