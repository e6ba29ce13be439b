"""A verb is replayed: the same history gives the same steps, whatever the verb does."""

import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config
from plivotx.events import CallRequested, Gateway, StepEnded, StepStarted
from plivotx.restxml import script
from plivotx.restxml.script import (
    MAX_AT_ONCE,
    MAX_STEPS,
    Again,
    Api,
    Caller,
    Changed,
    Ended,
    Execute,
    Finish,
    Gone,
    Goto,
    Over,
    Running,
    Start,
    Stop,
    Tell,
    Verb,
    Wait,
    Waiting,
    api,
    do,
    execute,
    kind,
)

BEEP = Execute("playback", "tone_stream://beep")
LISTEN = Execute("play_and_get_digits", "1 1", ("digit",))
NOTICE = Tell("http://app/notice/")
MENU = Execute("playback", "menu")
PAGE = "1/0"


CALLER = Caller(
    channel="c",
    request=CallRequested(
        request_uuid="r",
        from_number="1",
        to_number="2",
        gateways=(Gateway(prefix="user/"),),
        answer_url="http://a/",
        hangup_url="http://a/",
    ),
    config=Config(),
)


def replay(verb, page, history, **more):
    return script.replay(verb, CALLER, page, history, **more)


def started(number, command):
    return StepStarted(key=f"{PAGE}/{number}", digest=command.digest, kind=kind(command))


def ended(number, *result, **more):
    return StepEnded(key=f"{PAGE}/{number}", result=result, **more)


def step(number, command, known, stop=False):
    return Running(f"{PAGE}/{number}", command, known, stop)


def runs(*steps):
    """Where a verb stands that has these steps running: number, command, whether its start is on record."""
    return Waiting(tuple(step(*each) for each in steps))


class Menu(Verb, frozen=True, kw_only=True):
    """Asks up to three times for a key, then says the menu or ends the call."""

    tries: int = 3

    def run(self, call):
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

    def run(self, call):
        first = yield Start(BEEP)
        second = yield Start(LISTEN)
        yield Wait(second)
        yield Wait(first)


def verb(body):
    """A verb of this one use, with *body* for its run."""
    return type("Odd", (Verb,), {"run": lambda self, call: body()}, frozen=True, kw_only=True)()


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
        self.assertEqual(replay(Menu(), PAGE, history), Over(None, steps=3))

    def test_may_end_the_call(self):
        history = [ended(1), ended(2), ended(3)]
        self.assertEqual(
            replay(Menu(), PAGE, history),
            Over(Finish(cause="NO_USER_RESPONSE", why="nothing was pressed"), steps=3),
        )

    def test_hears_why_a_step_failed(self):
        self.assertEqual(
            replay(Menu(), PAGE, [ended(1, failed="no such application")]).outcome.why, "no such application"
        )

    def test_that_does_nothing_is_over(self):
        self.assertEqual(replay(Menu(tries=0), PAGE, ()).outcome.cause, "NO_USER_RESPONSE")

    def test_may_have_several_steps_at_once(self):
        self.assertEqual(replay(Both(), PAGE, ()), runs((1, BEEP, False), (2, LISTEN, False)))
        self.assertEqual(
            replay(Both(), PAGE, [started(1, BEEP), started(2, LISTEN), ended(1)]), runs((2, LISTEN, True))
        )
        self.assertEqual(replay(Both(), PAGE, [ended(2)]), runs((1, BEEP, False)))
        self.assertEqual(replay(Both(), PAGE, [ended(1), ended(2)]), Over(None, steps=2))

    def test_gets_the_key_of_its_step_and_its_variables(self):
        seen = []

        def body():
            seen.append((yield Start(LISTEN)))
            seen.append((yield Wait(seen[0])))

        replay(verb(body), PAGE, [ended(1, ("digit", "7"), ("é", ""))])
        self.assertEqual(seen, [f"{PAGE}/1", Ended(f"{PAGE}/1", {"digit": "7", "é": ""})])


class ACallThatIsGone(SynchronousTestCase):
    def test_lets_every_wait_end_with_gone(self):
        self.assertEqual(replay(Menu(), PAGE, [started(1, LISTEN)], gone=True), Over(None, steps=1))

    def test_still_gives_what_had_ended_before(self):
        seen = []

        def body():
            first = yield from execute("playback")
            second = yield from execute("playback")
            seen.extend([first, second])

        replay(verb(body), PAGE, [ended(1)], gone=True)
        self.assertEqual(seen, [Ended(f"{PAGE}/1", {}), Gone()])

    def test_gives_what_it_cut_off_as_far_as_it_had_come(self):
        def body():
            heard = yield from execute("record", returns=("record_ms",))
            return Finish(cause="X", why=f"{type(heard).__name__} {dict(heard.vars)}")

        where = replay(verb(body), PAGE, [ended(1, ("record_ms", "900"), cut=True)])
        self.assertEqual(where.outcome.why, "Gone {'record_ms': '900'}")

    def test_still_lets_the_application_be_told(self):
        def body():
            heard = yield from execute(BEEP.app, BEEP.arg)
            told = yield from do(NOTICE)
            yield from execute("playback", "never")
            return Finish(cause="X", why=f"{type(heard).__name__} {type(told).__name__}")

        history = [started(1, BEEP)]
        self.assertEqual(replay(verb(body), PAGE, history, gone=True), runs((2, NOTICE, False)))
        history += [started(2, NOTICE), ended(2)]
        self.assertEqual(replay(verb(body), PAGE, history, gone=True).outcome.why, "Gone Ended")


class AVerbThatWasChanged(SynchronousTestCase):
    def test_starts_another_command_than_is_on_record(self):
        for other in (BEEP, Execute("playback", "menu2"), Execute("play_and_get_digits", "1 1", ("digits",))):
            where = replay(Menu(), PAGE, [started(1, other)])
            self.assertEqual(where.why, "step 1/0/1 is recorded with another command")

    def test_has_what_is_on_record_as_running_broken_off(self):
        where = replay(Menu(), PAGE, [started(1, BEEP)])
        self.assertEqual([(each.key, each.stop) for each in where.running], [("1/0/1", True)])
        self.assertEqual(replay(Menu(), PAGE, [started(1, BEEP), ended(1)]).running, ())
        self.assertEqual(replay(Menu(), PAGE, [started(1, NOTICE)]).running, ())
        self.assertEqual(replay(Menu(), PAGE, [started(1, BEEP)], gone=True).running, ())

    def test_has_a_digest_that_is_the_same_for_ever(self):
        # on disk: another digest here would abandon the verbs of every live call at an upgrade
        for command, digest in (
            (Execute("playback", "silence_stream://1000", ("a", "b")), "52bc2114"),
            (Execute("playback", "x", (), (("a", "b"),)), "43b2cb1d"),
            (Api("uuid_break", ("u",)), "52285919"),
            (Tell("http://a/", "GET", (("a", "b"),)), "bf305026"),
        ):
            self.assertEqual(command.digest, digest)


class OtherSteps(SynchronousTestCase):
    def test_are_commands_of_the_switch_with_their_answer(self):
        def body():
            heard = yield from api("strftime", "%Y")
            return Goto("http://a/", params=(("Year", heard.vars["reply"]),))

        where = replay(verb(body), PAGE, ())
        self.assertEqual(where, runs((1, Api("strftime", ("%Y",)), False)))
        where = replay(verb(body), PAGE, [ended(1, ("reply", "2026"))])
        self.assertEqual(where.outcome, Goto("http://a/", params=(("Year", "2026"),)))

    def test_are_tidings_for_the_application(self):
        def body():
            yield from do(NOTICE)

        self.assertEqual(replay(verb(body), PAGE, ()), runs((1, NOTICE, False)))
        self.assertEqual(replay(verb(body), PAGE, [started(1, NOTICE)]), runs((1, NOTICE, True)))
        failed = [started(1, NOTICE), ended(1, failed="status 500")]
        self.assertEqual(replay(verb(body), PAGE, failed), Over(None, steps=1))

    def test_know_the_call(self):
        seen = []

        class Curious(Verb, frozen=True, kw_only=True):
            def run(self, call):
                seen.append((call.channel, call.to_number, call.from_number, call.round))
                yield from ()

        replay(Curious(), PAGE, ())
        self.assertEqual(seen, [("c", "2", "1", 0)])


class AStepThatIsBrokenOff(SynchronousTestCase):
    def body(self):
        key = yield Start(BEEP)
        yield from do(LISTEN)
        yield Stop(key)
        heard = yield Wait(key)
        return Finish(cause="X", why=f"{heard.stopped} {dict(heard.vars)}")

    def test_runs_until_then(self):
        history = [started(1, BEEP), started(2, LISTEN)]
        self.assertEqual(replay(verb(self.body), PAGE, history), runs((1, BEEP, True), (2, LISTEN, True)))

    def test_is_to_be_stopped_and_waited_for(self):
        history = [started(1, BEEP), started(2, LISTEN), ended(2)]
        self.assertEqual(replay(verb(self.body), PAGE, history), runs((1, BEEP, True, True)))
        history.append(ended(1, ("a", "b"), stopped=True))
        self.assertEqual(replay(verb(self.body), PAGE, history).outcome.why, "True {'a': 'b'}")

    def test_may_have_ended_before(self):
        history = [started(1, BEEP), started(2, LISTEN), ended(1), ended(2)]
        self.assertEqual(replay(verb(self.body), PAGE, history).outcome.why, "False {}")

    def test_is_what_a_verb_leaves_behind(self):
        def body():
            yield Start(BEEP)
            yield Start(Api("uuid_break"))
            yield Start(NOTICE)

        where = replay(verb(body), PAGE, ())
        left = (step(2, Api("uuid_break"), False), step(3, NOTICE, False))
        self.assertEqual(where, Over(None, left, 3))  # what had not begun is let be
        where = replay(verb(body), PAGE, [started(1, BEEP), started(3, NOTICE), ended(2)])
        self.assertEqual(where, Over(None, (step(1, BEEP, True, True),), 3))


class AVerbThatBeginsAnew(SynchronousTestCase):
    def test_goes_on_counting_its_steps(self):
        def body():
            yield from execute(BEEP.app, BEEP.arg)
            return Again()

        self.assertEqual(replay(verb(body), PAGE, [ended(1)]), Over(Again(), steps=1))
        self.assertEqual(replay(verb(body), PAGE, [], steps=1), runs((2, BEEP, False)))
        self.assertEqual(replay(verb(body), PAGE, [ended(1), ended(2)], steps=1), Over(Again(), steps=2))


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

        def leaving():
            yield from execute("playback")
            sys.exit("bye")

        def gone():
            raise GeneratorExit

        def interrupted():
            yield from execute("playback")
            raise KeyboardInterrupt

        class Other(BaseException):
            pass

        def odd():
            raise Other("base")

        self.changed(at_once, "Odd raised ValueError('at once')")
        self.changed(leaving, "Odd raised SystemExit('bye')", [ended(1)])
        self.changed(gone, "Odd raised GeneratorExit()")
        self.changed(interrupted, "Odd raised KeyboardInterrupt()", [ended(1)])
        self.changed(odd, "Odd raised Other('base')")
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

    def test_yields_what_means_nothing(self):
        def body():
            yield "playback"

        self.changed(body, "it yields 'playback', which is no Start, Wait or Stop")

    def test_starts_what_is_no_command(self):
        def body():
            yield Start("playback")

        self.changed(body, "it yields Start(command='playback')")

    def test_starts_a_command_that_nobody_could_be_told(self):
        for command in (
            Execute("playback", 5),
            Execute("playback", "\ud800"),
            Api("version", ("a", None)),
            Tell("http://a.test/", params=(("a", "\ud800"),)),
        ):

            def body(command=command):
                yield from do(command)

            self.changed(body, "cannot be told to anybody")

    def test_returns_what_is_no_outcome(self):
        def body():
            yield from ()
            return "NORMAL_CLEARING"

        self.changed(body, "it returns 'NORMAL_CLEARING'")

    def test_returns_an_outcome_that_no_event_could_carry(self):
        for outcome in (
            Goto("http://a.test/", (("Digits", "1"),)),
            Goto("http://a.test/", params=(("Digits", 1),)),
            Goto(None),
            Goto("http://a.test/\ud800"),
            Finish("NORMAL_CLEARING", object()),
            Finish("NO SUCH\nCAUSE", "why"),
            Finish("", "why"),
        ):

            def body(outcome=outcome):
                yield from ()
                return outcome

            self.changed(body, "which is no outcome")

    def test_forgot_to_yield(self):
        self.changed(lambda: None, "Odd raised ")

    def test_never_ends(self):
        def starting():
            while True:
                yield Start(BEEP)

        def deaf():
            while True:
                yield from execute("playback")

        self.changed(starting, f"more than {MAX_AT_ONCE} steps at once")
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
            self.assertTrue(first.running)
            self.assertFalse(done & {each.key for each in first.running})

    @given(st.lists(EVENT, max_size=12))
    def test_that_ended_a_verb_has_ended_it_whatever_is_heard_later(self, history):
        ends = [replay(Menu(), PAGE, history[:length]) for length in range(len(history) + 1)]
        for before, after in pairwise(ends):
            if isinstance(before, Over):
                self.assertIsInstance(after, Over | Changed)
