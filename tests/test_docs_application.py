"""The application that docs/application.md shows does what the page says."""

import re
from pathlib import Path

from twisted.trial.unittest import TestCase

from plivotx.testing import Answer, EmulatedWorld

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "application.md").read_text(encoding="utf-8")
(SHOWN,) = re.findall(r"^```python\n(# app\.py\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class TheSmallOne(TestCase):
    async def test_says_which_key_was_pressed(self):
        shown = {"__name__": "app"}
        exec(SHOWN, shown)  # the page's own program
        question = shown["QUESTION"].replace("http://127.0.0.1:5000/", "http://application.test/")
        world = EmulatedWorld()
        self.addCleanup(world.end)
        world.start()
        world.application.answers["answer"] = Answer(body=question.encode())
        world.application.answers["pressed"] = lambda received: Answer(
            body=shown["PAGES"]["/pressed/"].format(Digits=received.params["Digits"]).encode()
        )
        await world.closed(await world.call("57"))
        spoken = [arg.rpartition("|")[2] for uuid, app, arg, at in world.switch.executed if app == "speak"]
        self.assertEqual(spoken[-1], "You pressed 7.")
