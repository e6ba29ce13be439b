"""The verbs that plivotx comes with, without a server: what they ask for, and what they make of what they get."""

import re
from xml.sax.saxutils import escape, quoteattr

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx import plugins
from plivotx.config import Config
from plivotx.events import CallRequested, Gateway, StepEnded
from plivotx.restxml import sounds
from plivotx.restxml.attributes import attributes
from plivotx.restxml.document import DocumentError, parse
from plivotx.restxml.script import Again, Caller, Goto, Over, Waiting, replay

CONFIG = Config(play_folders=("/srv/sounds",), record_folders=("/srv/recordings", "/srv/more"))
VERBS = plugins.load([plugins.shipped()], CONFIG).verbs
CALLER = Caller(
    channel="1b4e28ba-2fa1-5d30-8f2c-1f2e3d4c5b6a",
    request=CallRequested(
        request_uuid="r",
        from_number="1",
        to_number="2",
        gateways=(Gateway(prefix="user/"),),
        answer_url="http://a/",
        hangup_url="http://a/",
    ),
    config=CONFIG,
)


def read(document):
    return parse(f"<Response>{document}</Response>", VERBS, CONFIG)


def ended(number, *result, **more):
    return StepEnded(key=f"1/0/{number}", result=result, **more)


class Verbs(SynchronousTestCase):
    def run_(self, document, *history, **more):
        (verb,) = read(document)
        return replay(verb, CALLER, "1/0", history, **more)

    def command(self, document, *history):
        where = self.run_(document, *history)
        self.assertIsInstance(where, Waiting, where)
        (running,) = where.running
        return running.command

    def refused(self, document, why):
        error = self.assertRaises(DocumentError, read, document)
        self.assertIn(why, error.why)


class Attributes(Verbs):
    def test_that_v01_ignored_are_ignored(self):
        (play,) = read("<Play loop='often'>x.wav</Play>")
        (many,) = read("<Play loop='99999'>x.wav</Play>")
        (get,) = read("<GetDigits numDigits='x' retries='many' other='1'/>")
        (speak,) = read("<Speak type='number' method='LOUD' loop=''>x</Speak>")
        self.assertEqual((play.loop, many.loop), (1, 10_000))
        self.assertEqual((get.numDigits, get.retries), (99, 1))
        self.assertEqual((speak.type, speak.method, speak.loop), (None, None, 1))
        self.assertEqual(read("<GetDigits numDigits='100'/>")[0].numDigits, 99)

    def test_that_v01_refused_are_refused(self):
        for document, why in (
            (
                "<Play loop='-1'>x.wav</Play>",
                "attribute loop='-1' is wrong: it must be a whole number from 0 to 10000",
            ),
            ("<GetDigits numDigits='0'/>", "numDigits='0'"),
            ("<GetDigits retries='0'/>", "retries='0'"),
            ("<GetDigits timeout='0'/>", "timeout='0'"),
            ("<GetDigits timeout='soon'/>", "timeout='soon' is wrong: it must be a whole number from 1"),
            ("<GetDigits method='get'/>", "method='get' is wrong: it must be GET or POST"),
            ("<Record maxLength='0'/>", "maxLength='0'"),
            ("<Record timeout='x'/>", "timeout='x'"),
            ("<Record fileFormat='ogg'/>", "fileFormat='ogg' is wrong: it must be mp3 or wav"),
            ("<Wait length='0'/>", "length='0'"),
            ("<GetDigits><Record/></GetDigits>", "Record cannot stand inside GetDigits"),
            ("<PreAnswer><Hangup/></PreAnswer>", "Hangup cannot stand inside PreAnswer"),
        ):
            self.refused(document, why)

    def test_that_are_true_or_false_are_true_only_for_true(self):
        for value in ("True", "yes", "1", "", "false"):
            self.assertFalse(read(f"<Record playBeep='{value}'/>")[0].playBeep)
        self.assertTrue(read("<Record/>")[0].playBeep)
        self.assertTrue(read("<Record bothLegs='true'/>")[0].bothLegs)

    def test_of_every_verb_have_a_description(self):
        for verb in VERBS.values():
            self.assertTrue(all(each.description for each in attributes(verb)), verb)


class Sounds(Verbs):
    def test_that_may_be_played(self):
        for place in (
            "ivr/ivr-welcome_to.wav",
            "/srv/sounds/a b.wav",
            "/srv/recordings/x.mp3",
            "http://a/b.mp3?c=d&amp;e=f",
            "https://a/~b/c.wav",
            "tone_stream://%(200,100,440);loops=3",
            "silence_stream://1000",
            "local_stream://moh/8000",
            "shout://radio/stream.mp3",
            "file_string://a.wav!silence_stream://10!/srv/sounds/b.wav",
        ):
            read(f"<Play>{place}</Play>")

    def test_that_may_not(self):
        for place in (
            "/etc/passwd",
            "/srv/sounds/../../etc/passwd",
            "../x.wav",
            "/srv/soundsx/a.wav",
            "say:hello",
            "phrase:x",
            "{a=b}x.wav",
            "tone_stream://path=/etc/passwd",
            "tone_stream://L=1;path=/etc/passwd",
            "local_stream://../../x",
            "x.tone_stream",
            "ls -la.shell_stream",
            "a.HTTP",
            "shell_stream://id",
            "file_string:///etc/passwd",
            "file_string://x.wav!shell_stream://id",
            "http://a/'b",
            "http://a/$%7Bb%7D",
            "x.wav!y.wav",
            "a|b",
            "http://",
            "ftp://a/b",
        ):
            self.refused(f"<Play>{place}</Play>", "Play: ")
            self.refused(f'<GetDigits invalidDigitsSound="{place}"/>', "GetDigits: ")

    @given(st.text())
    def test_of_any_name_never_reach_what_is_not_theirs(self, place):
        try:
            sounds.check(place, CONFIG)
        except ValueError:
            return
        for each in sounds.parts(place):
            self.assertNotIn("..", each.partition("?")[0].split("/"))
            if each.startswith("/"):
                self.assertTrue(each.startswith(("/srv/sounds/", "/srv/recordings/", "/srv/more/")))
            self.assertFalse(set(each) & set("'\"\\^`{}|\n"))

    @given(st.lists(st.text(), min_size=2), st.text())
    def test_that_are_joined_stay_apart(self, texts, more):
        several = [sounds.spoken(each) for each in (*texts, more)]
        joined, delimiter = sounds.joined(several)
        self.assertEqual(len(joined.split(delimiter)), len(several))


class FileStrings(Verbs):
    def test_hold_no_other_and_not_thousands_of_items(self):
        self.refused(f"<Play>{'file_string://' * 1000}a.wav</Play>", "holds another file_string")
        self.refused(f"<Play>file_string://{'a!' * 100}a</Play>", "has 101 items; 100 is all")
        self.assertEqual(self.command(f"<Play>file_string://{'a!' * 99}a</Play>").arg.count("a"), 100)


class PlayAndSpeak(Verbs):
    def test_set_the_delimiter_and_let_no_key_end_them(self):
        command = self.command("<Play loop='2'>file_string://a.wav!b.wav</Play>")
        self.assertEqual(command.arg, "a.wav!b.wav!a.wav!b.wav")
        self.assertEqual(dict(command.variables)["playback_delimiter"], "!")
        self.assertEqual(dict(command.variables)["playback_terminators"], "none")
        command = self.command("<Play loop='2'>http://a/b!c.wav</Play>")
        self.assertEqual(
            (command.arg, dict(command.variables)["playback_delimiter"]),
            ("~".join(["http://a/b!c.wav"] * 2), "~"),
        )
        self.assertEqual(dict(self.command("<Wait/>").variables)["playback_delimiter"], "")

    def test_go_on_in_rounds_as_long_as_something_is_heard(self):
        self.assertEqual(self.command("<Play loop='0'>x.wav</Play>").arg.count("x.wav"), 10)
        heard = ("playback_ms", "20")
        self.assertEqual(self.run_("<Play loop='0'>x.wav</Play>", ended(1, heard)).outcome, Again())
        self.assertIsNone(self.run_("<Play loop='0'>x.wav</Play>", ended(1)).outcome)
        self.assertIsNone(self.run_("<Play loop='10'>x.wav</Play>", ended(1, heard)).outcome)

    def test_speak_in_a_voice_that_is_a_word(self):
        for attribute in ("voice", "engine", "language"):
            self.refused(f"<Speak {attribute}='a|b'>x</Speak>", f"attribute {attribute}='a|b' is wrong")


class GetDigits(Verbs):
    NEXT = "<GetDigits action='http://a/next' method='GET'/>"

    def test_gives_what_was_pressed_to_its_action(self):
        where = self.run_(self.NEXT, ended(1, ("pagd_input", "12")))
        self.assertEqual(where, Over(Goto("http://a/next", "GET", (("Digits", "12"),)), steps=1))

    def test_asks_for_nothing_without_digits_action_or_caller(self):
        digits = ("pagd_input", "12")
        for where in (
            self.run_(self.NEXT, ended(1)),
            self.run_(self.NEXT, ended(1, digits, cut=True)),
            self.run_(self.NEXT, gone=True),
            self.run_("<GetDigits action='nowhere'/>", ended(1, digits)),
            self.run_("<GetDigits/>", ended(1, digits)),
        ):
            self.assertEqual(where, Over(None, steps=1))

    def test_asks_as_it_was_told(self):
        command = self.command(
            "<GetDigits timeout='7' retries='2' numDigits='3' finishOnKey='' validDigits='1,2 #a' playBeep='true'>"
            "<Speak engine='cepstral' voice='allison' loop='2'>it's ! ^ \\ here</Speak><Wait length='2'/></GetDigits>"
        )
        text = "say:it\\\\\\'s ! here".replace(" ! ", " !     ")
        self.assertEqual(
            command.arg,
            f"1 3 2 7000 'none' 'file_string://silence_stream://10~silence_stream://10~{text}~{text}"
            r"~silence_stream://2000~tone_stream://%(300,200,700)' 'silence_stream://150' pagd_input ^(1|2|\#|A)+$ 7000",
        )
        variables = dict(command.variables)
        self.assertEqual((variables["tts_engine"], variables["tts_voice"]), ("cepstral", "allison"))
        self.assertEqual(variables["playback_delimiter"], "~")

    def test_has_recorded_words_spelled_out_by_the_switch(self):
        document = "<GetDigits><Speak type='NUMBER' method='PRONOUNCED'>42</Speak></GetDigits>"
        command = self.command(document)
        self.assertEqual(command.words, ("en.wav", "en", "NUMBER", "PRONOUNCED", "42"))
        reply = ("reply", "file_string://digits/40.wav!digits/2.wav")
        self.assertIn(
            "silence_stream://10!digits/40.wav!digits/2.wav'", self.command(document, ended(1, reply)).arg
        )
        self.assertIn(
            "silence_stream://10'", self.command(document, ended(1, ("reply", "-ERR"), failed="-ERR")).arg
        )

    def test_must_have_a_key_to_be_pressed(self):
        self.refused(
            "<GetDigits validDigits='xyz'/>", "attribute validDigits='xyz' is wrong: it names no key"
        )

    def test_never_has_a_prompt_of_thousands(self):
        command = self.command("<GetDigits><Play loop='0'>x.wav</Play></GetDigits>")
        self.assertEqual(command.arg.count("x.wav"), 100)

    def test_never_has_a_prompt_larger_than_a_document(self):
        text = "word. " * 10_000
        for each in (f"<Speak loop='100'>{text}</Speak>", f"<Play loop='0'>{'x' * 60_000}.wav</Play>" * 4):
            command = self.command(f"<GetDigits>{each}</GetDigits>")
            self.assertLess(len(command.arg), 400_000)
        many = f"<Play loop='100'>file_string://{'!'.join('a' * 100)}</Play>" * 900
        self.assertLess(len(self.command(f"<GetDigits>{many}</GetDigits>").arg), 700_000)


class Texts(Verbs):
    SENTENCE = "It was the best of times, it was the worst of times. "

    def spoken(self, document):
        """The texts of one round, each as the engine gets it."""
        history, found = [], []
        while isinstance(where := self.run_(document, *history), Waiting):
            (running,) = where.running
            found.append(running.command.arg.split("|", 2)[2])
            history.append(ended(len(history) + 1))
        self.assertEqual(where.outcome, None)
        return found

    def test_that_an_engine_could_not_bear_are_spoken_in_pieces(self):
        found = self.spoken(f"<Speak>{self.SENTENCE * 100}</Speak>")
        self.assertEqual(" ".join(found), (self.SENTENCE * 100).strip())
        self.assertTrue(all(each.endswith("times.") and len(each) <= sounds.MOST_SPOKEN for each in found))
        self.assertEqual(self.spoken("<Speak>short</Speak>"), ["short"])

    def test_are_no_longer_spoken_when_the_caller_has_gone(self):
        where = self.run_(f"<Speak>{self.SENTENCE * 100}</Speak>", ended(1), ended(2, cut=True))
        self.assertEqual(where, Over(None, steps=2))

    def test_have_no_words_that_an_engine_could_not_bear(self):
        for each in (".", "\N{GRINNING FACE}", "x.", "'"):
            (once,) = self.spoken(f"<Speak>{(each * 500)[:500]}</Speak>")
            self.assertEqual([len(word.replace("\\'", "'")) for word in once.split()], [100] * 5)
            argument = self.command(f"<GetDigits><Speak>{each * 500}</Speak></GetDigits>").arg
            self.assertNotRegex(
                argument.partition("say:")[2].partition("' '")[0], r"[^ \\!~]{105}"
            )  # `say:` before it

    def test_have_pieces_in_a_prompt_as_well(self):
        argument = self.command(f"<GetDigits><Speak>{self.SENTENCE * 30}</Speak></GetDigits>").arg
        self.assertEqual(argument.count("!say:It was"), 2)

    @given(st.lists(st.text("ab.!?", max_size=1500), max_size=9).map(" ".join))
    def test_lose_nothing_but_blanks_between_their_pieces(self, text):
        found = sounds.pieces(text)
        self.assertEqual("".join(found).replace(" ", ""), text.replace(" ", ""))
        self.assertTrue(all(len(each) <= sounds.MOST_SPOKEN for each in found))
        self.assertEqual(re.findall(rf"\S{{{sounds.MOST_UNBROKEN + 1}}}", " ".join(found)), [])
        if not re.search(rf"\S{{{sounds.MOST_UNBROKEN + 1}}}", text):  # no word so long that it must be cut
            self.assertEqual(" ".join(found).split(), text.split())


class Record(Verbs):
    def test_may_write_only_where_it_is_allowed(self):
        for folder in (
            "/etc",
            "/srv/recordings/../x",
            "recordings",
            "/srv/recordings/a b",
            "/srv/recordingsx",
            "//x",
        ):
            self.refused(f"<Record filePath='{folder}'/>", "is in none of RECORD_FOLDERS")
        for name in ("../x", "a/b", "a b", ".x", "a'b", "x" * 300, "a;b"):
            self.refused(f'<Record fileName="{name}"/>', "fileName ")
        self.assertEqual(
            sounds.recording("/srv/more//x/./y/", "a.b_c-1", CONFIG), ("/srv/more/x/y/", "a.b_c-1")
        )
        self.assertRaises(ValueError, sounds.recording, "", "a", Config(record_folders=()))

    def test_tells_of_it_even_if_the_caller_hung_up(self):
        document = "<Record action='http://a/next' fileName='a' playBeep='false'/>"
        where = self.run_(document, ended(1, ("record_ms", "900"), cut=True))
        (told,) = where.running
        self.assertEqual(told.command.url, "http://a/next")
        self.assertEqual(
            told.command.params,
            (
                ("RecordingFileFormat", "mp3"),
                ("RecordingFilePath", "/srv/recordings/"),
                ("RecordingFileName", "a"),
                ("RecordFile", "/srv/recordings/a.mp3"),
                ("RecordingDuration", "900"),
                ("Digits", ""),
            ),
        )
        (unknown,) = self.run_(document, gone=True).running
        self.assertEqual(dict(unknown.command.params)["RecordingDuration"], "-1")

    def test_has_a_name_of_its_own_in_one_second_and_the_same_after_a_restart(self):
        (verb,) = read("<Record playBeep='false'/>")
        files = {}
        for place, shown in (("1/0", "1-1"), ("1/1", "1-2"), ("2/0", "2-1"), ("11/0", "11-1")):
            time = StepEnded(key=f"{place}/1", result=(("reply", "20270115-080000"),))
            again = [replay(verb, CALLER, place, (time,)) for _ in range(2)]
            self.assertEqual(again[0], again[1])
            files[place] = again[0].running[0].command.arg.split()[0]
            self.assertEqual(files[place], f"/srv/recordings/20270115-080000_{CALLER.channel}_{shown}.mp3")
        self.assertEqual(len(set(files.values())), 4)

    def test_of_a_caller_who_hung_up_before_it_began_is_not_told(self):
        unnamed = "<Record action='http://a/' playBeep='false'/>"
        self.assertEqual(self.run_(unnamed, gone=True), Over(None, steps=1))
        self.assertEqual(
            self.run_("<Record action='http://a/' fileName='a'/>", gone=True), Over(None, steps=1)
        )


class AnyDocument(SynchronousTestCase):
    @given(
        st.sampled_from(sorted(VERBS)),
        st.lists(
            st.tuples(
                st.sampled_from(sorted({each.name for verb in VERBS.values() for each in attributes(verb)})),
                st.text(),
            )
        ),
        st.text(),
    )
    def test_is_refused_or_its_commands_hold_no_line_end(self, name, given_, text):
        verb = VERBS[name]
        written = " ".join(f"{key}={quoteattr(value)}" for key, value in dict(given_).items())
        try:
            read_ = read(f"<{name} {written}>{escape(text)}</{name}>")
        except DocumentError:
            return
        for each in read_:
            self.assertIsInstance(each, verb)
            where = replay(each, CALLER, "1/0", ())
            for running in where.running:
                self.assertNotIn("\n", getattr(running.command, "arg", ""))
