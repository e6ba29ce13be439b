"""docs/extending.md names what is there."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


class Extending(SynchronousTestCase):
    def test_each_file_of_an_endpoint_holds_what_the_table_says(self):
        rows = re.findall(r"^\| `(plivotx/[\w/.]+)` \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
        self.assertEqual(len(rows), 8)
        for file, named in rows:
            source = (ROOT / file).read_text(encoding="utf-8")
            for name in re.findall(r"`([\w.]+)`", named):
                self.assertIn(name, source, file)

    def test_what_it_says_of_a_log_is_there(self):
        for file, name in re.findall(r"`(\w+)` of `([\w/.]+)`", PAGE):
            self.assertRegex((ROOT / name).read_text(encoding="utf-8"), rf"(class|def) {file}\b")
        self.assertEqual(len(re.findall(r"`(\w+)` of `([\w/.]+)`", PAGE)), 3)

    def test_it_lists_every_log_there_is(self):
        names = {
            each.name
            for each in (ROOT / "plivotx" / "log").glob("*.py")
            if "Log:\n" in each.read_text(encoding="utf-8")
        }
        self.assertEqual(
            {f"plivotx/log/{each}" for each in names},
            set(re.findall(r"plivotx/log/(?!interface)\w+\.py", PAGE)),
        )
