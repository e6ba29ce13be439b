"""Plugins are loaded from files, ours like an operator's own; one that is broken stops the start and says where."""

from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from plivotx import plugins
from plivotx.config import Config
from plivotx.events import CallRequested, Gateway
from plivotx.plugins import PluginError
from plivotx.projections.call import Call
from plivotx.restxml.document import parse
from plivotx.restxml.script import Caller, Execute, Running, Waiting, replay

CALL = Call(
    request=CallRequested(
        request_uuid="7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa",
        from_number="1",
        to_number="2",
        gateways=(Gateway(prefix="user/"),),
        answer_url="http://a/",
        hangup_url="http://a/",
    ),
    version=1,
)
BEEP = """\
    from plivotx.hookspecs import hookimpl
    from plivotx.restxml.script import Verb, execute

    class Beep(Verb, frozen=True, kw_only=True):
        times: int = 1

        def run(self, call):
            for _ in range(self.times):
                yield from execute("playback", "tone_stream://%(200,0,800)")

    @hookimpl
    def verbs():
        return [Beep]
"""
TELLS = """\
    from plivotx.events import CallbackOwed
    from plivotx.hookspecs import hookimpl

    @hookimpl
    def callbacks(call, config):
        yield CallbackOwed(key="{key}", url=call.request.answer_url, method=config.default_http_method, params=())

    @hookimpl
    def session(call):
        return [("{key}", call.uuid)]
"""
HOOK = "from plivotx.hookspecs import hookimpl\n\n@hookimpl\n"


class Loading(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()

    def write(self, name, text):
        path = self.folder / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def load(self, *more, config=None):
        return plugins.load([plugins.shipped(), self.folder, *more], config or Config())

    def refused(self, where, why):
        complaint = str(self.assertRaises(PluginError, self.load))
        self.assertTrue(complaint.startswith(f"{where}: "), complaint)
        self.assertIn(why, complaint)


class OurPlugins(Loading):
    def test_are_files_in_a_folder_like_any_other(self):
        loaded = self.load()
        self.assertLessEqual({"Wait", "Hangup"}, set(loaded.verbs))
        names = [Path(each).name for each in loaded.files]
        self.assertEqual(names, ["callbacks_v01.py", "verbs_flow.py", "verbs_media.py"])
        self.assertIn("RequestUUID", dict(loaded.session(CALL)))

    def test_can_be_loaded_twice(self):
        self.assertEqual(set(self.load().verbs), set(self.load().verbs))


class AnOperatorsOwn(Loading):
    def test_verb_of_ten_lines_works(self):
        self.write("beep.py", BEEP)
        loaded = self.load()
        (verb,) = parse("<Response><Beep times='2'/></Response>", loaded.verbs, Config())
        beep = Execute("playback", "tone_stream://%(200,0,800)")
        caller = Caller(channel="c", request=CALL.request, config=Config())
        where = replay(verb, caller, "1/0", ())
        self.assertEqual(where, Waiting((Running("1/0/1", beep, started=False),)))
        self.assertIn("Wait", loaded.verbs)

    def test_callbacks_are_told_after_ours_in_the_order_of_the_files(self):
        self.write("b.py", TELLS.format(key="second"))
        self.write("a.py", TELLS.format(key="first"))
        loaded = self.load()
        told = [each for tell in loaded.callbacks for each in tell(CALL)]
        self.assertEqual([each.key for each in told], ["first", "second"])
        self.assertEqual(told[0].method, "POST")
        self.assertEqual(loaded.session(CALL)[-2:], (("first", CALL.uuid), ("second", CALL.uuid)))

    def test_hooks_take_what_they_need_of_what_is_offered(self):
        self.write(
            "a.py", HOOK + "def callbacks():\n    return ()\n\n@hookimpl\ndef session():\n    return ()\n"
        )
        loaded = self.load()
        self.assertEqual([list(tell(CALL)) for tell in loaded.callbacks], [[], []])

    def test_folder_may_be_empty_and_hold_other_things(self):
        self.write("README", "not Python")
        self.write("a.txt", "]")
        (self.folder / "sub").mkdir()
        self.assertEqual(set(self.load().verbs), set(plugins.load([plugins.shipped()], Config()).verbs))

    def test_file_may_have_the_name_of_another_one(self):
        self.write("verbs_media.py", BEEP)
        other = Path(self.mktemp())
        other.mkdir()
        (other / "verbs_media.py").write_text(dedent(BEEP).replace("Beep", "Boop"))
        loaded = self.load(other)
        self.assertLessEqual({"Wait", "Beep", "Boop"}, set(loaded.verbs))
        self.assertEqual(len({each.__module__ for each in loaded.verbs.values()}), 4)


class ABrokenOne(Loading):
    def test_is_a_folder_that_is_missing(self):
        error = self.assertRaises(PluginError, self.load, Path("/nowhere/plugins"))
        self.assertEqual(str(error), "/nowhere/plugins: no such folder of plugins")

    def test_is_no_python(self):
        path = self.write("a.py", "x = 1\nif x\n    y\n")
        self.refused(f"{path}, line 2", "expected ':'")

    def test_is_not_text(self):
        path = self.folder / "a.py"
        path.write_bytes(b"x = '\xff'\n")
        self.assertIn(str(path), str(self.assertRaises(PluginError, self.load)))
        path.write_bytes(b"x = '\0'\n")
        self.assertIn(str(path), str(self.assertRaises(PluginError, self.load)))

    def test_raises_while_it_is_loaded(self):
        path = self.write("a.py", "def f():\n    raise ValueError('why')\n\nf()\n")
        self.refused(f"{path}, line 2", "ValueError: why")
        path = self.write("a.py", "import json\n\njson.loads(']')\n")
        self.refused(f"{path}, line 3", "JSONDecodeError: ")
        path = self.write("a.py", "import no_such_module\n")
        self.refused(f"{path}, line 1", "ModuleNotFoundError: ")
        path = self.write("a.py", "\nimport sys\nsys.exit(3)\n")
        self.refused(f"{path}, line 3", "SystemExit: 3")

    def test_implements_a_hook_that_does_not_exist(self):
        path = self.write("a.py", HOOK + "def callback(call):\n    return ()\n")
        self.refused(f"{path}, line 3", "unknown hook 'callback'")

    def test_asks_a_hook_for_what_it_does_not_offer(self):
        path = self.write("a.py", HOOK + "def callbacks(call, reactor):\n    return ()\n")
        self.refused(f"{path}, line 3", "'reactor'")

    def test_names_a_verb_that_is_there_already(self):
        path = self.write("a.py", BEEP.replace("Beep", "Wait"))
        self.refused(f"{path}, line 4", "the verb Wait is there twice, also in ")
        ours = plugins.shipped() / "verbs_media.py"
        self.assertIn(f"also in {ours}, line ", str(self.assertRaises(PluginError, self.load)))

    def test_offers_what_is_no_verb(self):
        path = self.write("a.py", HOOK + "def verbs():\n    return ['Beep', int]\n")
        self.refused(f"{path}, line 3", "'Beep' is not a subclass of Verb")

    def test_has_a_verb_with_an_attribute_that_no_text_can_be_read_as(self):
        for kind, why in (("'NoSuchType'", "name 'NoSuchType' is not defined"), ("int | Verb | dict", "")):
            path = self.write("a.py", BEEP.replace("times: int = 1", f"times: {kind} = 1"))
            self.refused(f"{path}, line 4", f"Beep: {why}")

    def test_is_told_by_its_whole_path_even_if_the_folder_was_given_by_a_short_one(self):
        path = self.write("a.py", "1 / 0\n")
        short = self.folder.relative_to(Path.cwd())
        error = self.assertRaises(PluginError, plugins.load, [short], Config())
        self.assertEqual(str(error), f"{path}, line 1: ZeroDivisionError: division by zero")

    def test_raises_when_it_is_asked_for_its_verbs(self):
        path = self.write("a.py", HOOK + "def verbs():\n    raise ValueError('why')\n")
        self.refused(f"{path}, line 5", "ValueError: why")
        path = self.write("a.py", HOOK + "def verbs():\n    return None\n")
        self.refused(path, "TypeError: ")


class OneThatRaisesWhileItWorks(Loading):
    def told(self, broken):
        path = self.write("b.py", broken)
        self.write("a.py", TELLS.format(key="first"))
        self.write("c.py", TELLS.format(key="last"))
        loaded = self.load()
        self.assertEqual([each.key for tell in loaded.callbacks for each in tell(CALL)], ["first", "last"])
        self.assertEqual(loaded.session(CALL)[-2:], (("first", CALL.uuid), ("last", CALL.uuid)))
        return path

    def setUp(self):
        super().setUp()
        self.lines = []
        self.patch(plugins, "log", self)

    def failure(self, message, **values):
        self.lines.append(message.format(**values))

    def test_is_logged_by_name_and_the_others_are_told(self):
        for what in ("SystemExit", "KeyboardInterrupt"):
            self.lines.clear()
            path = self.told(
                HOOK
                + f"def callbacks(call):\n    raise {what}\n\n@hookimpl\ndef session(call):\n    yield 1 / 0\n"
            )
            self.assertEqual(self.lines, [f"plugin {path} raised"] * 2)

    def test_or_gives_what_was_not_asked_for(self):
        for answer in (
            "['ring']",
            "None",
            "7",
            "[None]",
            "[('a', 1)]",
            "[('a', 'b', 'c')]",
            "[('a', '\\ud800')]",
        ):
            self.lines.clear()
            path = self.told(
                f"{HOOK}def callbacks(call):\n    return {answer}\n\n@hookimpl\ndef session(call):\n    return {answer}\n"
            )
            self.assertEqual(self.lines, [f"plugin {path} raised"] * 2)

    def test_or_a_callback_that_the_log_would_not_give_back_as_it_is(self):
        owed = "CallbackOwed(key='x', url='http://a/', method='POST', params=())"
        for answer in (
            owed.replace("'x'", "None"),
            owed.replace("'x'", "['x']"),
            owed.replace("'http://a/'", "None"),
            owed.replace("()", "(('a', 1),)"),
            owed.replace("()", "(('a', object()),)"),
            owed.replace("()", "(('a', '\\ud800'),)"),
            "type('Mine', (CallbackOwed,), {}, frozen=True)" + owed.removeprefix("CallbackOwed"),
        ):
            self.lines.clear()
            path = self.told(
                f"from plivotx.events import CallbackOwed\n{HOOK}def callbacks(call):\n    return [{answer}]\n"
            )
            self.assertEqual(self.lines, [f"plugin {path} raised"])
