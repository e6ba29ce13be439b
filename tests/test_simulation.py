"""A few seeds of the simulation, and a few breakages that it must notice; `script/simulate` plays more."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.breakages import BREAKAGES, noticed
from tests.simulation.run import play

DOCS = Path(__file__).parent.parent / "docs" / "simulation.md"


class Seeds(SynchronousTestCase):
    def test_fifty_stories_end_well(self):
        for seed in range(50):
            outcome = play(seed)
            self.assertEqual(outcome.complaints, [], f"script/simulate SEEDS=1 FROM={seed}")

    def test_the_same_seed_tells_the_same_story(self):
        first, second = play(7), play(7)
        self.assertEqual((first.seconds, first.faults), (second.seconds, second.faults))


class Breakages(SynchronousTestCase):
    def test_some_missing_mechanisms_are_noticed_at_once(self):
        for name in (
            "accept-early",
            "load-nothing",
            "no-compare",
            "no-kept-line",
            "callbacks-assumed",
            "no-limits",
            "renew-early",
            "renew-twice",
        ):
            self.assertIsNotNone(noticed(name, enough=20), name)

    def test_the_list_in_the_docs_is_the_list_that_is_tried(self):
        table = DOCS.read_text().partition("## Planted breakages")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", table, re.MULTILINE)
        self.assertEqual(rows, [(name, what) for name, (what, _) in BREAKAGES.items()])
