"""The demo tells the story of one call and stops by itself."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments, **environment):
    """Run a Python to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Demo(SynchronousTestCase):
    def test_tells_of_one_call_from_its_post_to_its_end(self):
        ran = run("-m", "plivotx.demo", PLIVOTX_AUTH_ID="somebody", PLIVOTX_LOG="redis://nowhere.test:1/0")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)
        lines = re.findall(r"^ *([0-9.]+) s  (log|application) +(\S+)(.*)$", ran.stdout, re.MULTILINE)
        times = [float(at) for at, _, _, _ in lines]
        self.assertEqual(times, sorted(times))
        story = [what for _, where, what, _ in lines if where == "log"]
        self.assertEqual((story[0], story[-1]), ("CallRequested", "CallClosed"))
        self.assertEqual(
            [what for _, where, what, _ in lines if where == "application"],
            ["/ring/", "/answer/", "/hangup/"],
        )
        self.assertIn("/hangup/ hears CallStatus=completed HangupCause=NORMAL_CLEARING", ran.stdout)

    def test_says_what_is_wrong_when_the_server_cannot_start(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            place = Path(self.mktemp())
            place.mkdir()
            script = f"from plivotx import demo; demo.free_port = lambda: {port}; demo.main()"
            ran = run("-c", script, TMPDIR=str(place.resolve()))
        self.assertEqual(ran.returncode, 1)
        self.assertIn("plivotx cannot start", ran.stderr)
        self.assertIn("the demo failed", ran.stderr.splitlines()[-1])
        self.assertNotIn("Traceback", ran.stderr)
        self.assertEqual(list(place.iterdir()), [])
