"""The page docs/testing.md is true: its examples run as it says, and its tests notice mistakes."""

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from plivotx import testing
from plivotx.testing import Answer, EmulatedWorld, Received

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


class TheExamples(SynchronousTestCase):
    def run_with(self, test, *, replacing="", by=""):
        """Run one of the tests in a folder with all files; gives the exit status and what trial said."""
        folder = Path(self.mktemp()).resolve()
        for name, text in EXAMPLES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text if name == test else text.replace(replacing, by))
        ran = subprocess.run(
            [sys.executable, "-m", "twisted.trial", test.removesuffix(".py")],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def test_are_the_files_that_the_text_is_about(self):
        self.assertEqual(list(EXAMPLES), ["verbs/beep.py", "test_beep.py", "shop.py", "test_shop.py"])
        self.assertEqual(PAGE.count("```python"), len(EXAMPLES))

    def test_pass(self):
        for test in ("test_beep.py", "test_shop.py"):
            status, said = self.run_with(test)
            self.assertEqual(status, 0, said)
            tests = len(re.findall(r"async def test_", EXAMPLES[test]))
            self.assertIn(f"PASSED (successes={tests})", said)

    def test_fail_if_what_they_test_is_wrong(self):
        for test, right, wrong in (
            ("test_beep.py", "range(self.times)", "range(self.times + 1)"),
            ("test_shop.py", "open at nine", "are closed"),
        ):
            self.assertTrue(any(right in text for text in EXAMPLES.values()))
            status, said = self.run_with(test, replacing=right, by=wrong)
            self.assertEqual(status, 1, said)
            self.assertIn("FAILED (failures=", said)

    def test_have_the_verb_of_the_other_page(self):
        howto = (ROOT / "docs" / "verbs-howto.md").read_text(encoding="utf-8")
        self.assertIn(EXAMPLES["verbs/beep.py"], howto)


class TheTables(SynchronousTestCase):
    def test_name_what_there_is(self):
        listed = PAGE.partition("## What there is")[2].partition("\nEach of")[0]
        rows = re.findall(r"^\| (`.*?`) \|", listed, re.MULTILINE)
        self.assertGreater(len(rows), 8)
        for name in re.findall(r"`(?:await )?(\w+)\(", " ".join(rows)):
            self.assertTrue(hasattr(EmulatedWorld, name) or hasattr(testing, name), name)

    def test_name_the_fields_of_requests_and_answers(self):
        about = PAGE.partition("`world.application.received` has")[2].partition("## How")[0]
        for name in (*Answer.__struct_fields__, *Received.__struct_fields__, "path"):
            self.assertIn(f"`{name}`", about)

    def test_name_what_the_switch_has(self):
        world = EmulatedWorld()
        about = PAGE.partition("`world.switch` is")[2].partition("## How")[0]
        names = re.findall(r"`(\w+)`", about)
        self.assertIn("press", names)
        for name in names:
            self.assertTrue(hasattr(world.switch, name), name)
