"""What is written about plivotx is true of it."""

import re
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config, load

ROOT = Path(__file__).resolve().parent.parent


def written(value):
    """A default as a file has it."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


DEFAULTS = {field.upper(): written(value) for field, value in msgspec.structs.asdict(Config()).items()}


class Configuration(SynchronousTestCase):
    def test_the_page_has_a_row_for_each_key_in_order_with_its_default_and_meaning(self):
        page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)` )?\| (.+) \|$", page, re.MULTILINE)
        self.assertEqual([(name, default) for name, default, _ in rows], list(DEFAULTS.items()))
        self.assertTrue(all(len(meaning) > 10 for _, _, meaning in rows))

    def test_the_sample_file_holds_each_key_as_a_comment_with_its_default_and_meaning(self):
        text = (ROOT / "conf" / "plivotx.conf").read_text(encoding="utf-8")
        rows = re.findall(r"^# (.+)\n#([A-Z_]+) =(?: (.*))?$", text, re.MULTILINE)
        self.assertEqual([(name, default) for _, name, default in rows], list(DEFAULTS.items()))
        self.assertTrue(all(len(meaning) > 10 for meaning, _, _ in rows))

    def test_the_sample_file_changes_nothing_as_it_is_nor_without_its_comment_signs(self):
        sample = ROOT / "conf" / "plivotx.conf"
        self.assertEqual(load(str(sample), {}), Config())
        bare = Path(self.mktemp())
        bare.write_text(
            re.sub(r"^#(?=[A-Z_]+ =)", "", sample.read_text(encoding="utf-8"), flags=re.MULTILINE)
        )
        self.assertIn("\nLOG = ", bare.read_text())
        self.assertEqual(load(str(bare), {}), Config())
