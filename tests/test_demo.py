"""The demo tells the story of four calls, stops everything that it started, and says what went wrong."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from plivotx.config_file import load
from plivotx.demo import CONFIGURATION, IMPLIED, Line, Received, Style, own_folder, shown, story
from plivotx.projections.record import iso

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 90


class Running:
    """The demo as a process, in a folder of its own."""

    def __init__(self, folder, *arguments, **environment):
        self.folder = folder
        folder.mkdir(parents=True)
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self):
        """Its output and complaints, once it has ended; and nothing of it is left."""
        output, complaints = self.process.communicate(timeout=PATIENCE)
        left = [str(each) for each in (self.folder / "var").iterdir()]
        address = re.search(r"plivotx is started on 127\.0\.0\.1:(\d+)", output)
        return output, complaints, left, address and int(address[1])


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Demo(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()

    def test_tells_of_four_calls_from_their_post_to_their_end(self):
        demo = Running(
            self.folder, "-m", "plivotx.demo", PLIVOTX_AUTH_ID="a", PLIVOTX_LOG="redis://nowhere.test:1/0"
        )
        output, complaints, left, port = demo.end()
        self.assertEqual((demo.process.returncode, complaints, left), (0, "", []), output)
        self.assertFalse(listens(port))
        self.assertLessEqual(
            len(output.splitlines()), 100
        )  # some 75; a job or a step may tell its end a line late
        self.assertLessEqual(max(map(len, output.splitlines())), 118)
        self.assertNotIn("\033", output)
        calls = re.split(r"^\d\. ", output, flags=re.MULTILINE)[1:]
        self.assertEqual(len(calls), 4)
        for call in calls:
            told = re.findall(r"^ *([0-9.]+) s  (\S+) ", call, re.MULTILINE)
            self.assertEqual([float(at) for at, _ in told], sorted(float(at) for at, _ in told))
            self.assertEqual((told[0][1], told[-1][1]), ("CallRequested", "CallClosed"))
        for call, *said in zip(
            calls,
            ("Digits=42", "USER_BUSY", "HangupOnRing is reached", "TimeLimit is reached"),
            ("You pressed", "no gateway is left", "ORIGINATOR_CANCEL", "ALLOTTED_TIMEOUT"),
            ("gets POST /hangup/ CallStatus=completed",) * 4,
            strict=True,
        ):
            for each in said:
                self.assertIn(each, " ".join(call.split()))

    def test_says_what_is_wrong_when_the_server_cannot_start(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            script = f"from plivotx import demo; demo.free_port = lambda: {port}; demo.main()"
            demo = Running(self.folder, "-c", script)
            _, complaints, left, _ = demo.end()
        self.assertEqual((demo.process.returncode, left), (1, []))
        self.assertIn("the demo failed: ", complaints)
        self.assertIn("plivotx cannot start", complaints)
        self.assertNotIn("Traceback", complaints)

    def test_says_what_became_of_a_call_otherwise_than_it_should(self):
        script = (
            "from plivotx import demo; from msgspec.structs import replace;"
            "demo.CALLS = (replace(demo.CALLS[1], cause='NORMAL_CLEARING'),); demo.main()"
        )
        demo = Running(self.folder, "-c", script)
        output, complaints, left, _ = demo.end()
        self.assertEqual((demo.process.returncode, left), (1, []), output)
        self.assertEqual(
            complaints,
            "the demo failed: call 1 ended with USER_BUSY and the application was asked for hangup;"
            " expected were NORMAL_CLEARING and hangup\n",
        )

    def test_leaves_nothing_behind_when_it_is_told_to_end(self):
        for name in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=name):
                demo = Running(self.folder / name.name, "-m", "plivotx.demo")
                port = int(demo.process.stdout.readline().partition("127.0.0.1:")[2].partition(":")[0])
                end = time.monotonic() + PATIENCE
                while not listens(port) and time.monotonic() < end:
                    time.sleep(0.05)
                demo.process.send_signal(name)
                _, complaints, left, _ = demo.end()
                self.assertEqual((demo.process.returncode, left), (1, []))
                self.assertEqual(complaints, "the demo failed: it was told to end\n")
                self.assertFalse(listens(port))

    def test_leaves_no_server_behind_when_it_is_killed_and_its_folder_only_to_the_next_one(self):
        demo = Running(self.folder, "-m", "plivotx.demo")
        port = int(demo.process.stdout.readline().partition("127.0.0.1:")[2].partition(":")[0])
        end = time.monotonic() + PATIENCE
        while not listens(port) and time.monotonic() < end:
            time.sleep(0.05)
        demo.process.kill()
        demo.process.communicate(timeout=PATIENCE)
        while listens(port) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertFalse(listens(port))
        var = self.folder / "var"
        (left,) = var.iterdir()
        self.assertTrue((left / "demo.sqlite").exists())
        while left.exists() and time.monotonic() < end:  # its server may take a moment to end
            with own_folder(var) as (folder, _):
                self.assertNotEqual(folder, left)
        self.assertEqual(list(var.iterdir()), [])


class Folders(SynchronousTestCase):
    """Of several demos that share one place."""

    def setUp(self):
        self.place = Path(self.mktemp())
        self.place.mkdir()

    def left(self):
        """The folders that are still there once another demo has come and gone."""
        with own_folder(self.place) as (folder, _):
            (folder / "demo.sqlite").touch()
        return list(self.place.iterdir())

    def test_of_dead_ones_are_removed_and_nothing_else(self):
        for each in ("demo-dead", "demo-dead-too", "mine"):
            (self.place / each).mkdir()
            (self.place / each / "demo.sqlite").touch()
        (self.place / "demo-dead" / "demo.sqlite-wal").touch()
        (self.place / "demo-notes.txt").touch()
        (self.place / "demo-tape").mkdir()
        (self.place / "demo-tape" / "tape.wav").touch()
        self.assertEqual({each.name for each in self.left()}, {"mine", "demo-notes.txt", "demo-tape"})

    def test_of_a_live_one_are_kept_whole(self):
        with own_folder(self.place) as (folder, _):
            (folder / "demo.sqlite").touch()
            self.assertEqual(self.left(), [folder])
            self.assertTrue((folder / "demo.sqlite").exists())
        self.assertEqual(self.left(), [])

    def test_of_one_whose_server_lives_are_kept_until_that_ends(self):
        script = (
            "import os, subprocess; from pathlib import Path; from plivotx.demo import own_folder\n"
            "with own_folder(Path(os.environ['PLACE'])) as (_, lock):\n"
            "    subprocess.Popen(['cat'], pass_fds=(lock,))\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        demo = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PLACE": str(self.place.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.assertEqual(demo.wait(PATIENCE), -signal.SIGKILL)
        (left,) = self.left()
        self.assertTrue(left.name.startswith("demo-"))
        demo.communicate(
            timeout=PATIENCE
        )  # its server reads to the end, and closes its files one after the other
        end = time.monotonic() + PATIENCE
        while left.exists() and time.monotonic() < end:
            self.left()
        self.assertEqual(self.left(), [])


class Configuration(SynchronousTestCase):
    def test_is_a_switch_without_telephones_and_a_log_of_its_own_on_loopback(self):
        loaded = load(str(CONFIGURATION), {})
        self.assertEqual((loaded.warnings, loaded.notes), ((), ()))
        self.assertEqual(
            [(each.name, each.address) for each in loaded.config.switches], [("demo", "emulator")]
        )
        self.assertEqual(loaded.config.log, "sqlite:var/demo.sqlite")
        self.assertEqual(loaded.config.http_address, "127.0.0.1:8088")


class TheStory(SynchronousTestCase):
    def record(self, *timeline):
        return {
            "Attempts": [{"Number": 1, "Why": "it was busy"}, {"Number": 2, "Why": None}],
            "Timeline": [{"Time": iso(at), "Event": event, "Text": text} for at, event, text in timeline],
        }

    def test_is_told_in_order_without_what_only_repeats_its_neighbours(self):
        record = self.record(
            (1.0, "AttemptStarted", "Attempt 1 is dialled."),
            (2.0, "ChannelEnded", "The channel of attempt 1 has ended: USER_BUSY."),
            (2.0, "AttemptFailed", "Attempt 1 is over."),
            *((3.0, event, "...") for event in sorted(IMPLIED)),
            (4.0, "ChannelEnded", "The channel of attempt 2 has ended: NORMAL_CLEARING."),
        )
        received = [Received(3.5, "ring", {"CallStatus": "ringing", "From": "1"}, "<Response/>")]
        self.assertEqual(
            [(each.at, each.what, each.text) for each in story(record, received)],
            [
                (1.0, "AttemptStarted", "Attempt 1 is dialled."),
                (2.0, "AttemptFailed", "Attempt 1 is over."),
                (3.5, "> application", "gets POST /ring/ CallStatus=ringing\nanswers <Response/>"),
                (4.0, "ChannelEnded", "The channel of attempt 2 has ended: NORMAL_CLEARING."),
            ],
        )

    def test_keeps_cause_and_effect_apart_within_one_millisecond(self):
        record = self.record((1.5, "CallEnded", "over"), (1.5, "CallClosed", "all told"))
        (ended, asked, closed) = story(record, [Received(1.5009, "hangup", {}, "")])
        self.assertEqual((ended.what, closed.what), ("CallEnded", "CallClosed"))
        self.assertTrue(asked.what.startswith(">"))

    def test_is_folded_to_the_width_of_the_terminal(self):
        lines = list(shown([Line(12.5, "CallEnded", "word " * 20)], 10.0, Style(60)))
        self.assertTrue(lines[0].startswith("    2.50 s  CallEnded       word word"), lines[0])
        self.assertTrue(all(len(each) <= 60 for each in lines))
        self.assertEqual({each.index("word") for each in lines}, {28})
        self.assertEqual("".join(lines).count("word"), 20)

    def test_marks_what_the_application_gets_if_there_are_colours(self):
        look = Style(80, "", "<", ">")
        told, other = shown([Line(0, "> application", "a"), Line(0, "CallEnded", "b")], 0, look)
        self.assertTrue(told.startswith("<") and told.endswith("a>"))
        self.assertTrue(other.startswith("> ") and other.endswith("b>"))
