"""docs/cli.md is true: its tables are made of the command line, its examples can be typed."""

import re
import shlex
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from plivotx.cli.completion import commands
from plivotx.cli.main import make_parser
from plivotx.cli.reference import tables

ROOT = Path(__file__).resolve().parent.parent
MARKS = "<!-- made by: python -m plivotx.cli.reference -->\n"


class ThePage(SynchronousTestCase):
    def setUp(self):
        self.page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    def test_has_the_tables_of_the_command_line(self):
        _, made, rest = self.page.split(MARKS)
        self.assertEqual(made, tables(make_parser()), "put there what python -m plivotx.cli.reference prints")
        self.assertTrue(rest.strip())

    def test_names_every_command(self):
        for each in commands(make_parser()):
            self.assertIn(f"### `plivotx {each.name}", self.page)

    def test_shows_command_lines_that_are_understood(self):
        shown = [
            line.removeprefix("$ ")
            for block in re.findall(r"^```(?:sh|text)\n(.*?)^```", self.page, re.MULTILINE | re.DOTALL)
            for line in block.replace("\\\n", " ").splitlines()
            if re.match(r"(\$ )?plivotx ", line)
        ]
        self.assertGreater(len(shown), 8)
        for line in shown:
            words = shlex.split(re.split(r"[|>]| \|\| ", line)[0], comments=True)[1:]
            self.assertTrue(make_parser().parse_args(words), line)
