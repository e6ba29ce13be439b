"""Processes to be measured, what they cost, and the lines of the table."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0
"""Seconds for a process to be ready, or to end."""
TICK = os.sysconf("SC_CLK_TCK")


class Line(NamedTuple):
    """One line of the table: what was measured, of ours and of what it is held against."""

    what: str
    ours: str
    beside: str
    ratio: str
    wanted: str


class Process:
    """A process of its own, whose output goes to a file; ready when *ready* stands there."""

    def __init__(self, arguments: Sequence[str], folder: Path, name: str, ready: str) -> None:
        self.output = folder / f"{name}.out"
        self.http_port = 0
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PLIVOTX_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed server is not compiled at each start
        environment["PYTHONPATH"] = str(ROOT)
        self.began = time.monotonic()
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.seconds = self._wait(ready)
        """From the start to the moment it was ready."""

    def _wait(self, ready: str) -> float:
        while ready not in self.said():
            if self._process.poll() is not None or time.monotonic() - self.began > PATIENCE:
                self.end()
                raise RuntimeError(f"{self.output.stem} is not ready:\n{self.said()[-2000:]}")
            time.sleep(0.005)
        return time.monotonic() - self.began

    def said(self) -> str:
        """Everything it has written."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def port(self) -> int:
        """The port that the line with ``listens on HOST:PORT`` names."""
        return int(self.said().partition("listens on ")[2].split()[0].rpartition(":")[2])

    def cpu(self) -> float:
        """CPU seconds of all its threads so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> int:
        """Bytes that it holds in memory."""
        line = next(each for each in self._proc("status").splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="ascii")

    def result(self) -> list[float]:
        """The numbers in its last line, once it has ended."""
        if self._process.wait(timeout=PATIENCE * 4):
            raise RuntimeError(f"{self.output.stem} failed:\n{self.said()[-2000:]}")
        return [float(each) for each in self.said().splitlines()[-1].split()]

    def end(self) -> None:
        """Stop it, if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextmanager
def running(arguments: Sequence[str], folder: Path, name: str, ready: str) -> Iterator[Process]:
    """A process that is ended at the end of the block."""
    process = Process(arguments, folder, name, ready)
    try:
        yield process
    finally:
        process.end()


def module(name: str, *arguments: object) -> list[str]:
    """The arguments to Python that run a module of this folder."""
    return ["-m", f"benchmarks.{name}", *map(str, arguments)]


TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")


@contextmanager
def server(
    folder: Path, switch: str = "127.0.0.1:9", log: str = "", twistd: Sequence[str] = TWISTD
) -> Iterator[Process]:
    """`twistd plivotx` as it is run in earnest, on the port `http_port`.  Nobody is at the default *switch*."""
    port = free_port()
    lines = {
        "HTTP_ADDRESS": f"127.0.0.1:{port}",
        "FS_INBOUND_ADDRESS": switch,
        "LOG": f"sqlite:{log or folder / f'{port}.sqlite'}",
        "DIAL_PATIENCE": 3600,
    }
    file = folder / f"{port}.conf"
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    file.write_text(f"[plivotx]\n{text}", encoding="utf-8")
    arguments = [*twistd, "-n", "--pidfile=", "plivotx", "--config", str(file)]
    with running(arguments, folder, f"plivotx-{port}", "plivotx serves") as process:
        process.http_port = port
        yield process


@contextmanager
def emulator(folder: Path) -> Iterator[Process]:
    """The emulated switch in a process of its own."""
    arguments = [*TWISTD, "-n", "--pidfile=", "plivotx-emulator", "--port", "0"]
    with running(arguments, folder, "emulator", "listens on") as process:
        yield process


@contextmanager
def callers(folder: Path, *numbers: int) -> Iterator[tuple[float, float]]:
    """The application with its calls, which are done; gives calls a second and seconds.  See `benchmarks.callers`."""
    with running(module("callers", *numbers), folder, "callers", "done:") as process:
        calls, seconds = map(float, process.said().partition("done:")[2].split())
        yield calls / seconds, seconds


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def middle(values: Sequence[float]) -> float:
    """The median."""
    return median(values)


def progress(text: str) -> None:
    """Say what is going on, to whoever waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
