"""Whole stories in memory and in no time: a server, a switch, an application, one clock.

`World` is what a story plays in.  Its server can be killed and started again on what its log had made
durable; its switch is the emulator, its application keeps what it was told.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import msgspec
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from plivotx import plugins
from plivotx.config import Config
from plivotx.emulator.memory import Network
from plivotx.emulator.switch import Switch as Emulated
from plivotx.esl.connections import Switch
from plivotx.events import AttemptStarted, CallClosed, Event
from plivotx.log.memory import MemoryDisk, MemoryLog
from plivotx.server import Plivotx

APPLICATION = "http://application.test"
ANSWER_URL = f"{APPLICATION}/answer/"
RING_URL = f"{APPLICATION}/ring/"
HANGUP_URL = f"{APPLICATION}/hangup/"
SELF = "sofia/gateway/self/"
"""The gateway behind which the scripted far ends are, on the emulator and on the test configuration."""
WALL = 1_800_000_000.0
"""Wall time at which every world begins."""


# -- the application -------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """One request as the application got it."""

    at: float
    method: str
    url: str
    headers: Headers
    params: dict[str, str]

    @property
    def path(self) -> str:
        """``ring``, ``answer``, ``hangup`` or what else the URL names."""
        return urlsplit(self.url).path.strip("/")


class Answer(msgspec.Struct, frozen=True):
    """What the application does with a request."""

    status: int = 200
    body: bytes = b""
    delay: float = 0.0
    """Seconds until it answers."""
    broken: bool = False
    """The connection breaks instead of an answer."""
    never: bool = False
    """Nothing ever comes."""


class Application:
    """The customer's web server: answers by path, keeps what it was told."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.received: list[Received] = []
        self.answers: dict[str, Answer | Callable[[Received], Answer]] = {
            "answer": Answer(body=b"<Response><Wait length='100'/></Response>")
        }

    def told(self, path: str) -> list[dict[str, str]]:
        """The parameters of every request for *path*, in order."""
        return [each.params for each in self.received if each.path == path]

    def take(self, received: Received) -> Answer:
        """Keep a request and say what becomes of it."""
        self.received.append(received)
        answer = self.answers.get(received.path, Answer())
        return answer(received) if callable(answer) else answer


@implementer(IAgent)
class MemoryAgent:
    """An agent that reaches one application, without sockets."""

    def __init__(self, application: Application, clock: IReactorTime) -> None:
        self._application = application
        self._clock = clock

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Hand the request over; the answer comes when the application says."""
        body = _Collected()
        if bodyProducer is not None:
            bodyProducer.startProducing(body)
        url = uri.decode("ascii")
        query = body.data.decode("ascii") if method == b"POST" else urlsplit(url).query
        answer = self._application.take(
            Received(
                at=self._clock.seconds(),
                method=method.decode("ascii"),
                url=url,
                headers=headers or Headers(),
                params=dict(parse_qsl(query, keep_blank_values=True)),
            )
        )
        response: Deferred[IResponse] = Deferred(lambda _: None)
        if answer.never:
            return response

        def come() -> None:
            if response.called:
                return
            if answer.broken:
                response.errback(Failure(ConnectError("the connection was broken")))
            else:
                response.callback(_Response(answer))

        self._clock.callLater(answer.delay, come)
        return response


class _Collected:
    """A consumer that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


@implementer(IResponse)
class _Response:
    """A finished answer."""

    version = (b"HTTP", 1, 1)
    phrase = b"OK"
    previousResponse = None
    request = None

    def __init__(self, answer: Answer) -> None:
        self.code = answer.status
        self.headers = Headers()
        self.length = UNKNOWN_LENGTH
        self._body = answer.body

    def deliverBody(self, protocol: Protocol) -> None:
        if self._body:
            protocol.dataReceived(self._body)
        protocol.connectionLost(Failure(ResponseDone()))

    def setPreviousResponse(self, response: IResponse) -> None:
        """There is none."""


# -- a process that can be killed ------------------------------------------------------------------


class _Timer(msgspec.Struct, eq=False):
    call: IDelayedCall | None = None


@implementer(IReactorTime)
class Mortal:
    """A clock that stops for good when its process is killed: nothing that was planned is done."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._planned: dict[int, IDelayedCall] = {}
        self._count = 0
        self.dead = False

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - the interface's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        self._count += 1
        name = self._count

        def run() -> None:
            self._planned.pop(name, None)
            if not self.dead:
                callable(*args, **kw)

        if self.dead:
            return Clock().callLater(delay, run)  # a clock that nobody will ever advance
        planned = self._planned[name] = self._clock.callLater(delay, run)
        return planned

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        return [each for each in self._planned.values() if each.active()]

    def kill(self) -> None:
        """Nothing planned will run."""
        self.dead = True
        for each in self._planned.values():
            if each.active():
                each.cancel()
        self._planned.clear()


@implementer(IAgent)
class _MortalAgent:
    """Reaches the application as long as the process lives."""

    def __init__(self, agent: IAgent, life: Mortal) -> None:
        self._agent = agent
        self._life = life

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        if self._life.dead:
            return Deferred()
        return self._agent.request(method, uri, headers, bodyProducer)


def _new_uuid(dice: Random) -> str:
    return str(UUID(int=dice.getrandbits(128), version=4))


class Process:
    """One life of the server, from a start to a stop or a kill."""

    def __init__(
        self,
        config: Config,
        log: MemoryLog,
        endpoints: Mapping[str, IStreamClientEndpoint],
        application: Application,
        clock: Mortal,
        dice: Random,
    ) -> None:
        self.clock = clock
        self.log = log
        agent = _MortalAgent(MemoryAgent(application, clock), clock)
        switches = {
            name: Switch(name, endpoint, config.fs_inbound_password, clock, dice.random)
            for name, endpoint in endpoints.items()
        }
        loaded = plugins.load([plugins.shipped(), *map(Path, config.plugin_path)], config)
        self.server = Plivotx(config, log, switches, agent, clock, loaded, partial(_new_uuid, dice))
        self.web: Any = StubTreq(self.server.api.app.resource())  # type: ignore[no-untyped-call]  # treq's
        self.started = Deferred.fromCoroutine(self.server.start())

    def post(self, path: str, params: dict[str, str], **more: Any) -> Deferred[tuple[int, dict[str, Any]]]:
        """POST a form to the API; fires with the status and the answer."""

        async def exchange() -> tuple[int, dict[str, Any]]:
            response = await self.web.post(f"http://plivotx.test{path}", data=params, **more)
            body = await self.web.content(response)
            return response.code, msgspec.json.decode(body)

        return Deferred.fromCoroutine(exchange())

    def get(self, path: str, query: dict[str, str], **more: Any) -> Deferred[tuple[int, dict[str, Any]]]:
        """GET something of the API; fires with the status and the answer."""

        async def exchange() -> tuple[int, dict[str, Any]]:
            response = await self.web.get(f"http://plivotx.test{path}", params=query, **more)
            body = await self.web.content(response)
            return response.code, msgspec.json.decode(body)

        return Deferred.fromCoroutine(exchange())


# -- the world -------------------------------------------------------------------------------------


class World:
    """A server on a memory log, an application, and some switch; what stories play in.

    Subclasses say which switch and how time passes.
    """

    gateway = SELF
    latency = 0.001
    """Seconds for a commit of the log."""

    def __init__(self, clock: IReactorTime, config: Config | None = None, seed: int = 0) -> None:
        self.config = config or Config()
        self.clock = clock
        self.random = Random(f"server {seed}")  # noqa: S311 - a story must be the same each time
        self.disk = MemoryDisk()
        self.application = Application(clock)
        self.process: Process | None = None

    def endpoint(self) -> IStreamClientEndpoint:
        """Where the switch is."""
        raise NotImplementedError

    def endpoints(self) -> Mapping[str, IStreamClientEndpoint]:
        """Where the switches are, by name."""
        return {"default": self.endpoint()}

    async def channels(self) -> list[str]:
        """The channels of ours that are up on the switch."""
        raise NotImplementedError

    async def variable(self, channel: str, name: str) -> str:
        """What a variable of a channel holds."""
        raise NotImplementedError

    async def heard(self, stream: str) -> list[tuple[str, int]]:
        """The digits that the far end of a call heard, and when: microseconds on the clock of the switch."""
        raise NotImplementedError

    async def until(self, happened: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
        """Let time pass until *happened* gives something true, and return that."""
        raise NotImplementedError

    async def passes(self, seconds: float) -> None:
        """Let *seconds* pass."""
        raise NotImplementedError

    def wall(self) -> float:
        """The wall clock of the server's host."""
        return WALL + self.clock.seconds()

    # -- the server's life

    def start(self) -> None:
        """Start the server on what is durable."""
        life = Mortal(self.clock)
        self.process = Process(
            self.config, self.open_log(life), self.endpoints(), self.application, life, self.random
        )

    def open_log(self, life: Mortal) -> MemoryLog:
        """The log of a new process, on what the last one made durable."""
        return MemoryLog(
            self.disk, schedule=lambda commit: life.callLater(self.latency, commit), wall=self.wall
        )

    def kill(self) -> None:
        """The server dies: what was not durable is lost, its connections are cut, nothing is said."""
        process, self.process = self.process, None
        assert process is not None
        process.clock.dead = True
        process.log.abandon()
        process.server.stop()
        process.clock.kill()

    def end(self) -> None:
        """Leave nothing running."""
        if self.process:
            self.kill()

    # -- what stories do and see

    async def post(self, path: str = "/v0.1/Call/", **params: str) -> dict[str, Any]:
        """POST a form to the API and return its answer."""
        assert self.process is not None
        answer = self.process.post(path, params)
        await self.until(lambda: answer.called, what="the answer to a POST")
        return (await answer)[1]

    async def get(self, path: str = "/v0.1/Calls/", **query: str) -> dict[str, Any]:
        """GET something of the API and return its answer."""
        assert self.process is not None
        answer = self.process.get(path, query)
        await self.until(lambda: answer.called, what="the answer to a GET")
        return (await answer)[1]

    async def call(self, to: str, **params: str) -> str:
        """Make a call and return its RequestUUID."""
        wanted = {
            "From": "1000",
            "To": to,
            "Gateways": self.gateway,
            "AnswerUrl": ANSWER_URL,
            "RingUrl": RING_URL,
            "HangupUrl": HANGUP_URL,
        }
        answer = await self.post(**{**wanted, **params})
        assert answer["Success"], answer
        return str(answer["RequestUUID"])

    async def told(self, path: str, seconds: float = 60.0) -> dict[str, str]:
        """The parameters of the first request for *path*, once it came."""
        told: list[dict[str, str]] = await self.until(
            lambda: self.application.told(path), seconds, f"a request for {path}"
        )
        return told[0]

    async def recorded(self, stream: str, kind: type[Event], seconds: float = 60.0) -> Any:
        """The first event of this kind on record of a call, once there is one."""

        def found() -> Event | None:
            return next((each for each in self.events(stream) if isinstance(each, kind)), None)

        return await self.until(found, seconds, kind.__name__)

    async def closed(self, stream: str, seconds: float = 60.0) -> list[Event]:
        """Everything on record of a call, once it is closed."""
        await self.recorded(stream, CallClosed, seconds)
        return self.events(stream)

    def events(self, stream: str) -> list[Event]:
        """What is on record of a call."""
        return [each.event for each in self.disk.streams.get(stream, ())]

    def story(self) -> str:
        """Everything on record, for whoever has to find out what went wrong."""
        return "\n".join(
            f"{each.at - WALL:10.3f} {each.stream[:8]} {each.event}" for each in self.disk.events.values()
        )


class EmulatedWorld(World):
    """A world whose switch is the emulator and whose time passes as fast as it can."""

    clock: Clock

    def __init__(self, config: Config | None = None, seed: int = 0) -> None:
        super().__init__(Clock(), config, seed)
        self.switch = Emulated(self.clock, seed=seed, wall=WALL)
        self.network = Network(self.clock, self.switch, seed=seed)

    def endpoint(self) -> IStreamClientEndpoint:
        return self.network.endpoint()

    async def channels(self) -> list[str]:
        return [each for each in self.switch.channels if each[14] == "5"]

    async def variable(self, channel: str, name: str) -> str:
        return self.switch.channels[channel].get(name) or ""

    async def heard(self, stream: str) -> list[tuple[str, int]]:
        ours = {each.channel for each in self.events(stream) if isinstance(each, AttemptStarted)}
        return [
            (each.digit, round((WALL + each.at) * 1e6)) for each in self.switch.digits if each.uuid in ours
        ]

    def advance(self, end: float) -> None:
        """Let time pass until something happens, at most to *end*."""
        planned = self.clock.getDelayedCalls()
        following = min((each.getTime() for each in planned), default=end)
        self.clock.advance(max(0.0, min(following, end) - self.clock.seconds()))
        if self.process:
            self.process.web.flush()

    async def until(self, happened: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
        end = self.clock.seconds() + seconds
        while not (result := happened()):
            if self.clock.seconds() >= end:
                raise AssertionError(
                    f"{what or happened} did not happen within {seconds:g} s\n{self.story()}"
                )
            self.advance(end)
        return result

    async def passes(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.advance(end)
