"""docs/emulator.md names what the emulator has."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from plivotx.emulator import farends
from plivotx.emulator.api import COMMANDS
from plivotx.emulator.applications import APPLICATIONS
from plivotx.emulator.service import Options

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")


class ThePage(SynchronousTestCase):
    def listed(self, title):
        """The words after a title, up to the end of the sentence, in order."""
        text = PAGE.partition(f"* **{title}**: ")[2].partition(". ")[0]
        return re.sub(r"\s\([^)]*\)", "", text).split()

    def test_lists_every_application_and_every_command(self):
        self.assertEqual(self.listed("Applications"), sorted(APPLICATIONS))
        # originate is no entry of the table: it blocks its connection
        self.assertEqual(self.listed("Commands"), sorted([*COMMANDS, "originate"]))

    def test_says_of_each_refusing_number_with_which_cause(self):
        numbers, causes = re.search(r"^\| (`404.+?) \| ([A-Z_, ]+) \|$", PAGE, re.MULTILINE).groups()
        shown = zip(re.findall(r"`(\d+)\.\.\.`", numbers), causes.split(", "), strict=True)
        for number, cause in shown:
            self.assertEqual([each.detail for each in farends.script(number)], [cause])

    def test_shows_an_emulator_alone_that_runs(self):
        (shown,) = re.findall(r"^```python\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        names = {"__name__": "shown", "print": lambda *_: None}
        exec(shown, names)  # the page's own program
        (dialled,) = names["switch"].dialled
        self.assertEqual((dialled.prefix, dialled.destination), ("sofia/gateway/self/", "101"))
        self.assertEqual([app for _, app, *_ in names["switch"].executed], ["park"])

    def test_shows_every_option_with_its_default(self):
        line = re.search(r"^    twistd .* plivotx-emulator (.*)$", PAGE, re.MULTILINE)[1]
        shown = dict(re.findall(r"\[--(\w+) ([^]]+)\]", line))
        without = {"seed": "NUMBER"}
        given = {name: str(default) for name, _, default, *_ in Options.optParameters if default is not None}
        self.assertEqual(shown, {**given, **without})
