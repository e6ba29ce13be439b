"""A server that is killed, the switch and the application it works with, and the load.

The server is `twistd plivotx` in a process of its own, with its log in an SQLite file.  The switch (the
emulator, on a TCP port) and the application live in this process and see everything that is done to
them.
"""

import json
import os
import random
import re
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from plivotx.emulator.channel import Channel
from plivotx.emulator.service import Steady
from plivotx.emulator.switch import Factory, Switch
from plivotx.events import Event, decode
from plivotx.testing import SELF
from plivotx.waiting import sleep

reactor: Any = installed

START_LIMIT = 30.0
"""Seconds until a started server must serve."""
POST_LIMIT = 30.0
"""Seconds until a POST must be answered or broken."""
DRAIN_LIMIT = 90.0
"""Seconds after the last call and the last kill until nothing may be left."""
AT_ONCE = 100
"""Posts under way at the same time."""
MARGIN = 3
"""Seconds by which the switch's own limits come later than the server's."""
LATE = 2.5
"""Seconds by which the switch may be later still: it looks twice a second, and this process is busy."""
ROOT = Path(__file__).parents[2]
ANY = "at any moment"
DIALLED = "when the switch has read an originate"
ASKED = "when the application has read a request"
ACCEPTED = "when a client has read that its call was accepted"
HURTS = (DIALLED, ASKED, ACCEPTED)
DOCUMENT = b'<Response><Wait length="1"/></Response>'
DEAD = "sofia/gateway/dead/"


class Settings(msgspec.Struct, frozen=True):
    """How long, how fast, how rough."""

    calls: int = 1000
    kills: int = 20
    seed: int = 0
    rate: float = 40.0
    """Calls that are begun in a second, as far as the server can take them."""


# -- the three parties -----------------------------------------------------------------------------


class Server(ProcessProtocol):
    """One life of `twistd plivotx`."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.began = time.monotonic()
        self.serving: Deferred[float] = Deferred()
        """Fires with the seconds it took, or fails if the process ends before."""
        self.ended: Deferred[None] = Deferred()
        self._output = (folder / "plivotx.log").open("ab")
        self._tail = b""
        twistd = str(Path(sys.executable).with_name("twistd"))
        self.process = reactor.spawnProcess(
            self, twistd, [twistd, "-n", "--pidfile=", "plivotx"], env=environment, path=str(folder)
        )

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.write(data)
        self._tail = self._tail[-100:] + data
        if b"plivotx serves" in self._tail and not self.serving.called:
            self.serving.callback(time.monotonic() - self.began)

    def processEnded(self, reason: Failure) -> None:
        self._output.close()
        if not self.serving.called:
            self.serving.addErrback(lambda _: None)
            self.serving.errback(RuntimeError(f"the server ended before it served: {reason.value}"))
        self.ended.callback(None)

    def signal(self, name: str) -> Deferred[None]:
        """Send it a signal; fires when it has ended."""
        with suppress(ProcessExitedAlready):
            self.process.signalProcess(name)
        return self.ended

    def memory(self) -> float:
        """Megabytes that it holds."""
        status = Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return next((int(each.split()[1]) / 1024 for each in lines if each.startswith("VmRSS")), 0.0)


class Application(Resource):
    """The customer's web server: keeps what it is told, and is out of sorts now and then."""

    isLeaf = True

    def __init__(self, dice: random.Random, passes: Callable[[str], None]) -> None:
        super().__init__()
        self._dice = dice
        self._passes = passes
        self.told: list[tuple[float, str, str, int]] = []
        """Wall time, path, RequestUUID, the status that was answered."""

    def render_POST(self, request: Request) -> bytes:
        path = request.path.decode().strip("/")
        status = 500 if self._dice.random() < 0.05 else 200
        self.told.append((time.time(), path, request.args[b"RequestUUID"][0].decode(), status))
        request.setResponseCode(status)
        self._passes(ASKED)
        return DOCUMENT if path == "answer" and status == 200 else b""


class Phone:
    """The switch, on a TCP port, and what became of its channels."""

    def __init__(self, seed: int, passes: Callable[[str], None]) -> None:
        self.clock: Any = Steady(reactor)
        self.switch = Switch(self.clock, seed=seed, wall=time.time())
        self.gone: dict[str, Channel] = {}
        self.orders: list[tuple[float, str]] = []
        """Seconds of the clock, channel: each originate command that was read, whatever came of it."""
        forget, background = self.switch.forget, self.switch.background

        def keep(channel: Channel) -> None:
            self.gone[channel.uuid] = channel
            forget(channel)

        def read(job: str, command: str, argument: str) -> None:
            channel = re.search("origination_uuid=([0-9a-f-]{36})", argument)
            if command == "originate" and channel:
                self.orders.append((self.clock.seconds(), channel[1]))
                passes(DIALLED)
            background(job, command, argument)

        self.switch.forget = keep
        self.switch.background = read

    def wall(self, at: float) -> float:
        """The wall time of a moment of the switch."""
        return self.switch.wall() - self.clock.seconds() + at

    def mine(self) -> list[str]:
        """Channels of the server that are still there."""
        return [each for each in self.switch.channels if each[14] == "5"]


# -- playing ---------------------------------------------------------------------------------------


class World:
    """The three of them, and the load."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.dice = random.Random(settings.seed)
        self.application = Application(random.Random(settings.seed), self._passes)
        self.phone = Phone(settings.seed, self._passes)
        self.accepted: dict[str, str] = {}
        """RequestUUID: AccountSID, which is a different one for each POST."""
        self.refused: list[str] = []
        self.doubtful: list[str] = []
        """AccountSIDs of posts whose connection broke before the answer."""
        self.posted = 0
        self.killed = 0
        self.lives: list[tuple[float, str]] = []
        """Wall time of each start and kill."""
        self.starts: list[tuple[float, int]] = []
        """Seconds until it served, calls that were open."""
        self.load_seconds = 0.0
        self.memory = 0.0
        self.began = time.time()
        self.server: Server | None = None
        self._trap: tuple[str, Deferred[None]] | None = None
        self._ports: list[Any] = []
        self._environment: dict[str, str] = {}
        self._url = b""
        self._agent = Agent(reactor, connectTimeout=5)

    def open(self) -> None:
        """Begin to listen, for the switch and for the application."""
        site = Site(self.application)
        site.noisy = False
        for factory in (Factory(self.phone.switch), site):
            self._ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=1024))
        switch, application = (each.getHost().port for each in self._ports)
        here = f"127.0.0.1:{_free_port(self.dice)}"
        self._url = f"http://{here}/v0.1/Call/".encode()
        self._customer = f"http://127.0.0.1:{application}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PLIVOTX_")},
            "PYTHONPATH": str(ROOT),  # the same code as here
            "PLIVOTX_HTTP_ADDRESS": here,
            "PLIVOTX_FS_INBOUND_ADDRESS": f"127.0.0.1:{switch}",
            "PLIVOTX_LOG": f"sqlite:{self.folder / 'log.sqlite'}",
            "PLIVOTX_BACKSTOP_MARGIN": str(MARGIN),
            "PLIVOTX_CALLBACK_RETRY_DELAY": "0.2",
            "PLIVOTX_CALLBACK_RETRY_LONGEST": "1",
            "PLIVOTX_DOCUMENT_RETRY_DELAY": "0.1",
        }

    async def close(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.server is not None:
            await self.server.signal("KILL")
        for port in self._ports:
            await port.stopListening()
        self.phone.switch.stop()

    async def play(self) -> None:
        """Load and kills at the same time, then wait until nothing is left to be done, and stop."""
        self.open()
        self._start()
        await gatherResults([Deferred.fromCoroutine(each) for each in (self._load(), self._killer())])
        await self._serving()
        await self.until(self.over, DRAIN_LIMIT)
        assert self.server is not None
        self.memory = self.server.memory()
        stopped = self.server.signal("TERM")
        await self.until(lambda: stopped.called, 15)
        if not stopped.called:
            raise RuntimeError("the server did not stop within 15 s")
        self.server = None

    def _start(self) -> None:
        self.lives.append((time.time(), "is started"))
        self.server = server = Server(self._environment, self.folder)
        open_calls = len(self.accepted) - len(self._told())

        def served(seconds: float) -> None:
            self.lives.append((time.time(), "serves"))
            self.starts.append((seconds, open_calls))

        server.serving.addCallbacks(served, lambda _: None)

    async def _serving(self) -> None:
        server = self.server
        assert server is not None
        if not await self.until(lambda: server.serving.called, START_LIMIT) or server.ended.called:
            raise RuntimeError("the server did not start")

    def _told(self) -> set[str]:
        """The calls whose end the application has heard of."""
        return {uuid for _, path, uuid, status in self.application.told if (path, status) == ("hangup", 200)}

    async def _load(self) -> None:
        began = time.monotonic()
        posts: set[Deferred[None]] = set()
        for number in range(self.settings.calls):
            await self.until(lambda: len(posts) < AT_ONCE, POST_LIMIT * 10)
            self.posted += 1
            post = Deferred.fromCoroutine(self._call(number))
            posts.add(post)
            post.addCallback(lambda _, post=post: posts.discard(post))
            await sleep(reactor, self.dice.expovariate(self.settings.rate))
        await gatherResults(list(posts))
        self.load_seconds = time.monotonic() - began

    async def _call(self, number: int) -> None:
        """Post a call until there is an answer; what broke before it leaves a call in doubt."""
        params = self._params()
        for retry in range(100):
            params["AccountSID"] = f"{number}.{retry}"
            try:
                answer = await self._post(params)
            except ConnectError:  # nobody was there: nothing was accepted
                await sleep(reactor, 0.2)
                continue
            except Exception:
                self.doubtful.append(params["AccountSID"])
                continue
            if answer["Success"]:
                self.accepted[answer["RequestUUID"]] = params["AccountSID"]
                self._passes(ACCEPTED)
            else:
                self.refused.append(answer["Message"])
            return
        raise RuntimeError(f"call {number} found no answer")

    async def _post(self, params: dict[str, str]) -> dict[str, Any]:
        async def exchange() -> dict[str, Any]:
            response = await self._agent.request(
                b"POST",
                self._url,
                Headers({"Content-Type": ["application/x-www-form-urlencoded"]}),
                FileBodyProducer(BytesIO(urlencode(params).encode())),
            )
            answer: dict[str, Any] = json.loads(await readBody(response))
            return answer

        return await Deferred.fromCoroutine(exchange()).addTimeout(POST_LIMIT, reactor)

    def _params(self) -> dict[str, str]:
        to = self.dice.choice(("100", "100", "101", "486", "603", "701", "3"))
        params = {
            "From": "1000",
            "To": to,
            "Gateways": DEAD if self.dice.random() < 0.1 else SELF,
            "AnswerUrl": f"{self._customer}/answer/",
            "RingUrl": f"{self._customer}/ring/",
            "HangupUrl": f"{self._customer}/hangup/",
        }
        if to == "3":
            params["HangupOnRing"] = self.dice.choice(("0", "1", "1"))
        elif self.dice.random() < 0.3:
            params["TimeLimit"] = self.dice.choice(("1", "2"))
        return params

    async def _killer(self) -> None:
        """Kill when so many calls were posted, at any moment or at one that hurts; now and then while it starts."""
        settings = self.settings
        when = sorted(self.dice.uniform(0, settings.calls * 1.05) for _ in range(settings.kills))
        for each in when:
            if self.killed and self.dice.random() < 0.2:  # it has just been started
                await sleep(reactor, self.dice.uniform(0, 1.5))
            else:
                await self._serving()
                await self.until(lambda each=each: self.posted >= min(each, settings.calls), 600)
                await self._moment()
            assert self.server is not None
            self.lives.append((time.time(), "is killed"))
            await self.server.signal("KILL")
            self.killed += 1
            self._start()

    async def _moment(self) -> None:
        """Until the moment comes at which the server is killed."""
        where = self.dice.choice((ANY, ANY, *HURTS))
        if where == ANY:
            await sleep(reactor, self.dice.uniform(0, 1))
            return
        sprung: Deferred[None] = Deferred()
        self._trap = (where, sprung)
        with suppress(TimedOut):  # nothing of the kind happens any more
            await sprung.addTimeout(2, reactor)
        self._trap = None
        if self.dice.random() < 0.5:
            await sleep(reactor, self.dice.uniform(0, 0.01))

    def _passes(self, where: str) -> None:
        """Something comes to one of the places where the server may be killed right now."""
        if self._trap is not None and self._trap[0] == where:
            (_, sprung), self._trap = self._trap, None
            sprung.callback(None)

    # -- the end

    def over(self) -> bool:
        """Whether nothing is left to be done."""
        return not (self.open_streams() or self.phone.mine() or self.phone.switch.hash)

    def open_streams(self) -> int:
        """How many calls are open."""
        with closing(self._log()) as log:
            return int(log.execute("SELECT count(*) FROM streams WHERE open").fetchone()[0])

    def _log(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder / 'log.sqlite'}?mode=ro", uri=True)

    def streams(self) -> dict[str, list[tuple[float, Event]]]:
        """Everything on record: wall time and event, by stream."""
        found: dict[str, list[tuple[float, Event]]] = {}
        with closing(self._log()) as log:
            for name, at, data in log.execute(
                "SELECT name, at, data FROM events JOIN streams ON streams.id = stream ORDER BY position"
            ):
                found.setdefault(name, []).append((at, decode(data.encode())))
        return found

    def failures(self) -> list[str]:
        """What the server called a failure of its own."""
        lines = (self.folder / "plivotx.log").read_text().splitlines()
        return [each for each in lines if "#critical]" in each]

    def whole(self) -> str:
        """What SQLite thinks of its file: ``ok``, one hopes."""
        with closing(self._log()) as log:
            return str(log.execute("PRAGMA integrity_check").fetchone()[0])

    async def until(self, happened: Callable[[], Any], seconds: float) -> bool:
        """Wait until *happened*, at most so long; says whether it did."""
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end:
                return False
            await sleep(reactor, 0.05)
        return True


def _free_port(dice: random.Random) -> int:
    """A port that nobody has, nor gets by chance while the server is down: it is none of those for clients."""
    while True:
        port = dice.randrange(20_000, 30_000)
        with closing(socket.socket()) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
