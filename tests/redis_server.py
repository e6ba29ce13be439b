"""A Redis server of the tests' own: a child process on a Unix socket in a temporary folder.

All tests share one: it is started when the first wants it, emptied between them, and removed when the
process ends.
"""

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("redis-server")
MISSING = "" if PROGRAM else "redis-server is not installed (Debian: apt install redis-server)"


@functools.cache
def shared() -> "RedisServer":
    """The one that all tests share, empty when it is new."""
    server = RedisServer()
    atexit.register(server.remove)
    server.start()
    return server


class RedisServer:
    """Starts, kills, empties and starts again; what is on disk stays in between."""

    def __init__(self) -> None:
        # Not below trial's folder: the name of a Unix socket has to be short.
        self.folder = Path(tempfile.mkdtemp(prefix="plivotx-redis-"))
        self.socket = self.folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-use-rdb-preamble": "no",
            "save": "",
            "logfile": str(self.folder / "redis.log"),
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([PROGRAM, *words, *options])
        self._wait_until_it_answers()

    def kill(self) -> None:
        """Kill it with signal 9."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it hang without closing a connection, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it and delete all it kept."""
        self.thaw()
        self.kill()
        shutil.rmtree(self.folder)

    def ask(self, *words: str) -> bytes:
        """Send one command and return the raw answer; small answers only."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(b"*%d\r\n" % len(words))
            for word in words:
                connection.sendall(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
            return connection.recv(65536)

    def append_only_file(self) -> Path:
        """The file that holds what was written since the server was emptied."""
        (newest,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return newest

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + 10
        while True:
            try:
                if self.ask("PING") == b"+PONG\r\n":
                    return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    log = (self.folder / "redis.log").read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"redis-server does not start:\n{log}")
            os.sched_yield()
