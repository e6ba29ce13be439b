"""A server in a process of its own is killed under load, and nothing is lost; `script/kills` does it at length."""

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.kills.load import play
from tests.kills.world import Settings


class Kills(TestCase):
    timeout = 120

    def setUp(self):
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    async def test_what_was_accepted_ends_once_and_nobody_is_dialled_twice(self):
        verdict, text = await play(Settings(calls=60, kills=2, rate=30), self.folder)
        self.assertTrue(
            verdict.good, f"\n{text}\nThe output of the server is in {self.folder / 'plivotx.log'}."
        )
        self.assertEqual(verdict.counted["kills"], "2")
