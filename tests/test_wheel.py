"""The wheel has everything: installed where there is no checkout, plivotx starts and takes a call.

Nothing is downloaded: the wheel is built with the setuptools that is here, and the environment it is
installed in sees Twisted and the others where they are now.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "plivotx", "plugins", "conf", "twisted")
"""What a wheel is made of."""
DEPENDENCIES = Path(find_spec("twisted").origin).parent.parent
TWISTD = "from twisted.scripts.twistd import run; run()"
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PLIVOTX_", "PYTHON"))
}
"""Without what shows the way to the checkout: trial sets PYTHONPATH for its workers."""


def run(*command, **options):
    """Run a program; gives its output, and raises with it if the program complains."""
    ran = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=90, check=False, **options
    )
    if ran.returncode:
        raise AssertionError(f"{command} exited with {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def pip(*arguments):
    """Run this environment's pip, which must do without a network."""
    return run(
        sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *arguments, "--no-deps"
    )


def build(folder):
    """Make the wheel from a copy of what it is made of."""
    source = folder / "source"
    source.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache")
            )
        else:
            shutil.copy(ROOT / name, source)
    pip("wheel", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel, folder):
    """Install the wheel in an environment of its own; gives the Python of it."""
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    pip("--python", str(python), "install", "--no-index", str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder named in a path file is not searched for path files: the checkout stays out of it.
    (packages / "dependencies.pth").write_text(f"{DEPENDENCIES}\n", encoding="utf-8")
    return python


def post(port, patience=20.0, **form):
    """POST a call as soon as somebody listens; gives the answer."""
    end = time.monotonic() + patience
    while True:
        try:
            with urlopen(
                f"http://127.0.0.1:{port}/v0.1/Call/", urlencode(form).encode(), timeout=patience
            ) as answer:
                return json.load(answer)
        except URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class Wheel(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()

    def test_serves_where_there_is_no_checkout(self):
        wheel = build(self.folder)
        self.look_inside(wheel)
        python = install(wheel, self.folder / "elsewhere")
        place = self.folder / "place"
        place.mkdir()
        here = run(str(python), "-c", "import plivotx; print(plivotx.__file__)", cwd=place)
        self.assertTrue(Path(here).is_relative_to(self.folder), here)
        shown = run(str(python), "-c", TWISTD, "plivotx", "--help", cwd=place)
        self.assertIn("--config", shown)
        shown = run(str(python), "-c", TWISTD, "plivotx-emulator", "--help", cwd=place)
        for option in ("--port", "--password"):
            self.assertIn(option, shown)
        command = str(python.parent / "plivotx")
        shown = run(command, "--help", cwd=place)
        self.assertIn("exit codes", shown)
        (place / "answer.xml").write_text("<Response><Hangup/></Response>")
        self.assertIn("good, 1 verb: Hangup", run(command, "lint", "answer.xml", cwd=place))
        self.serve(python, place)
        self.emulate(python, place)

    def look_inside(self, wheel):
        with ZipFile(wheel) as content:
            names = content.namelist()
        conf = ROOT / "conf"
        for each in (
            *(ROOT / "plugins").glob("*.py"),
            *conf.glob("*.conf"),
            *conf.rglob("*.xml"),
            *conf.rglob("*.service"),
        ):
            carried = f".data/data/share/plivotx/{each.relative_to(ROOT)}"
            self.assertTrue(any(name.endswith(carried) for name in names), carried)
        self.assertIn("plivotx/py.typed", names)
        self.assertIn("twisted/plugins/plivotx_plugin.py", names)
        self.assertNotIn("twisted/__init__.py", names)
        self.assertFalse([name for name in names if name.startswith("tests")])

    def serve(self, python, place):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = place / "server.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                [str(python), "-c", TWISTD, "-n", "--pidfile=", "plivotx"],
                cwd=place,
                env={
                    **ENVIRONMENT,
                    "PLIVOTX_HTTP_ADDRESS": f"127.0.0.1:{port}",
                    "PLIVOTX_LOG": f"sqlite:{place / 'calls.sqlite'}",
                },
                stdout=output,
                stderr=output,
            )
        try:
            answer = post(
                port,
                From="1000",
                To="486",
                Gateways="sofia/gateway/self/",
                AnswerUrl="http://127.0.0.1:9/answer/",
            )
            self.assertIs(answer["Success"], True, answer)
            listed = run(str(python.parent / "plivotx"), "calls", "--url", f"http://127.0.0.1:{port}")
            self.assertIn(answer["RequestUUID"], listed)
            server.send_signal(signal.SIGINT)
            self.assertEqual(server.wait(20), -signal.SIGINT)  # it ends in order and says what ended it
        except Exception:
            print(log.read_text())
            raise
        finally:
            server.kill()
            server.wait()
        self.assertIn("Main loop terminated", log.read_text())
        self.assertTrue((place / "calls.sqlite").is_file())

    def emulate(self, python, place):
        log = place / "emulator.log"
        with log.open("w") as output:
            emulator = subprocess.Popen(
                [
                    str(python),
                    "-c",
                    TWISTD,
                    "-n",
                    "--pidfile=",
                    "plivotx-emulator",
                    "--port=0",
                    "--password=open",
                ],
                cwd=place,
                env=ENVIRONMENT,
                stdout=output,
                stderr=output,
            )
        try:
            end = time.monotonic() + 20
            while not (said := re.search(r"listens on 127\.0\.0\.1:(\d+)\n", log.read_text())):
                self.assertLess(time.monotonic(), end, log.read_text())
                time.sleep(0.05)
            with socket.create_connection(("127.0.0.1", int(said[1])), 20) as client:
                client.sendall(b"auth open\n\nexit\n\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            self.assertIn(b"Reply-Text: +OK accepted", answer)
            self.assertIn(b"Reply-Text: +OK bye", answer)
        finally:
            emulator.kill()
            emulator.wait()
