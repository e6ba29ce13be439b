"""The pages about verbs are true: one is made of their definitions, the example of the other one works."""

import re
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx import plugins
from plivotx.config import Config
from plivotx.events import StepEnded, VerbEnded
from plivotx.plugins import PluginError
from plivotx.restxml import script
from plivotx.restxml.attributes import attributes
from plivotx.restxml.reference import page
from plivotx.testing import Answer, EmulatedWorld

ROOT = Path(__file__).resolve().parent.parent
OURS = plugins.load([plugins.shipped()], Config()).verbs


def example():
    """The verb that docs/verbs-howto.md shows, as it stands there."""
    howto = (ROOT / "docs" / "verbs-howto.md").read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", howto, re.DOTALL)[1]


class TheReference(SynchronousTestCase):
    def test_is_what_the_definitions_say(self):
        written = (ROOT / "docs" / "verbs.md").read_text(encoding="utf-8")
        self.assertEqual(written, page(OURS), "run: script/verbs > docs/verbs.md")

    def test_names_what_is_missing_of_v01(self):
        missing = re.search(r"^\* Not there yet: ([^.]+)\.", page(OURS), re.MULTILINE)[1]
        v01 = {"Conference", "Dial", "GetDigits", "GetSpeech", "Hangup", "Notify", "Number", "Play", "PreAnswer",
               "Record", "Redirect", "SIPTransfer", "Speak", "Wait"}  # fmt: skip
        self.assertEqual({each for each in v01 if each in re.findall(r"\w+", missing)}, v01 - set(OURS))

    def test_describes_every_verb_and_attribute(self):
        for name, verb in OURS.items():
            self.assertGreater(len(verb.__doc__), 20, name)
            for each in attributes(verb):
                self.assertGreater(len(each.description), 3, f"{name} {each.name}")

    def test_is_printed_by_a_script_that_says_how(self):
        shown = subprocess.run(
            [ROOT / "script" / "verbs", "--help"], capture_output=True, text=True, check=True
        )
        self.assertIn("script/verbs [FOLDER ...] > docs/verbs.md", shown.stdout)


class TheExample(TestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.file = self.folder / "beep.py"

    async def test_of_ten_lines_is_loaded_from_a_folder_and_plays(self):
        lines = [each for each in example().splitlines() if each.strip()]
        self.assertLessEqual(len([each for each in lines if not each.startswith(("from", "@"))]), 10)
        self.file.write_text(example())
        world = EmulatedWorld(Config(plugin_path=(str(self.folder),)))
        self.addCleanup(world.end)
        world.start()
        world.application.answers["answer"] = Answer(body=b"<Response><Beep times='3'/></Response>")
        events = await world.closed(await world.call("100"))
        self.assertEqual([each.name for each in events if isinstance(each, VerbEnded)], ["Beep"])
        self.assertEqual(len([each for each in events if isinstance(each, StepEnded)]), 3)
        played = [argument for _, app, argument, _ in world.switch.executed if app == "playback"]
        self.assertEqual(played, ["tone_stream://%(200,300,800)"] * 3)

    def test_stands_beside_the_limits_of_a_verb(self):
        text = (ROOT / "docs" / "verbs-howto.md").read_text(encoding="utf-8")
        self.assertIn(f"may yield {script.MAX_STEPS:,} times", text)
        self.assertIn(f"with {script.MAX_AT_ONCE} steps under way at once", text)

    def test_is_described_with_the_others(self):
        self.file.write_text(example())
        text = page(plugins.load([plugins.shipped(), self.folder], Config()).verbs)
        self.assertIn("## Beep\n\nSound a short tone as often as *times* says.\n\n| attribute", text)
        self.assertIn("| `times` | `1` | a whole number |", text)

    def test_with_a_mistake_stops_the_start_with_its_name_and_line(self):
        self.file.write_text(example().replace("def run(self, call):", "def run(self, call)"))
        error = self.assertRaises(PluginError, plugins.load, [plugins.shipped(), self.folder], Config())
        line = example().splitlines().index("    def run(self, call):") + 1
        self.assertEqual(str(error), f"{self.file}, line {line}: expected ':'")
