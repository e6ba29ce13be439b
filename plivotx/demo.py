"""One call from its POST to its end, told as a story: `python -m plivotx.demo`, or script/demo.

The server is the real one, found and made as `twistd -n plivotx` does it: on its embedded switch, with a
log on disk and sockets on loopback.  The application that it talks to is here as well.
"""
# ruff: noqa: T201 - it is there to print

import os
import socket
import sqlite3
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import treq
from klein import Klein
from twisted.application.service import IServiceMaker
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater, react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.plugin import getPlugins
from twisted.web.server import Site

from plivotx.events import CallClosed, Event, decode

PATIENCE = 25.0
"""Seconds for everything."""
DOCUMENT = '<Response><Wait length="2"/><Hangup/></Response>'
TOLD = {
    "attempt",
    "body",
    "cause",
    "document",
    "from_number",
    "gateway",
    "key",
    "limit",
    "name",
    "number",
    "status",
    "to_number",
    "verb",
    "why",
}
"""Fields of events that say something to a reader of the story."""


class DemoError(Exception):
    """What went wrong, for the reader."""


class Line(msgspec.Struct, frozen=True):
    """Something that happened."""

    at: float
    where: str
    what: str


class Application:
    """The customer's web server: steers the call with one document and keeps what it is told."""

    def __init__(self) -> None:
        self.klein: Any = Klein()
        self.heard: list[Line] = []
        self.hung_up: Deferred[None] = Deferred()
        self.klein.route("/<page>/", methods=["POST"])(self.answer)

    def answer(self, request: Any, page: str) -> str:
        """Take one request of plivotx."""
        told = {name.decode(): values[0].decode() for name, values in request.args.items()}
        known = ("CallStatus", "HangupCause", "From", "To")
        shown = " ".join(f"{name}={told[name]}" for name in known if name in told)
        reply = DOCUMENT if page == "answer" else ""
        gives = f", gives {reply}" if reply else ""
        self.heard.append(Line(time.time(), "application", f"/{page}/ hears {shown}{gives}"))
        if page == "hangup" and not self.hung_up.called:
            self.hung_up.callback(None)
        return reply


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_service(folder: Path, port: int) -> Any:
    """The service of `twistd plivotx`, with its port and its log elsewhere."""
    file = folder / "plivotx.conf"
    file.write_text(
        f"[plivotx]\nHTTP_ADDRESS = 127.0.0.1:{port}\nLOG = sqlite:{folder / 'plivotx.sqlite'}\n",
        encoding="utf-8",
    )
    for name in [each for each in os.environ if each.startswith("PLIVOTX_")]:
        del os.environ[name]  # they would go before the file
    maker = next(each for each in getPlugins(IServiceMaker) if each.tapname == "plivotx")
    options = maker.options()
    options.parseOptions(["--config", str(file)])
    return maker.makeService(options)


async def post(reactor: Any, port: int, application: int) -> tuple[float, str]:
    """Ask for the call, as soon as somebody listens; gives the time of the POST and its RequestUUID."""
    urls = {
        name: f"http://127.0.0.1:{application}/{page}/"
        for name, page in (("AnswerUrl", "answer"), ("RingUrl", "ring"), ("HangupUrl", "hangup"))
    }
    form = {"From": "1000", "To": "101", "Gateways": "sofia/gateway/self/", **urls}
    while True:
        began = time.time()
        try:
            response = await treq.post(
                f"http://127.0.0.1:{port}/v0.1/Call/", data=form, persistent=False, reactor=reactor
            )
        except ConnectError:
            await deferLater(reactor, 0.05)
            continue
        answer = await response.json()
        if not answer["Success"]:
            raise DemoError(f"the call was refused: {answer['Message']}")
        return began, answer["RequestUUID"]


def recorded(folder: Path, stream: str) -> list[tuple[float, Event]]:
    """What is on disk of a call, with the time of each event."""
    log = sqlite3.connect(f"file:{folder / 'plivotx.sqlite'}?mode=ro", uri=True)
    try:
        rows = log.execute(
            "SELECT at, data FROM events WHERE stream = (SELECT id FROM streams WHERE name = ?)"
            " ORDER BY position",
            (stream,),
        ).fetchall()
    finally:
        log.close()
    return [(at, decode(data.encode())) for at, data in rows]


def told(event: Event) -> str:
    """An event in one line."""
    fields = msgspec.structs.asdict(event)
    texts = [f"{name}={value}" for name, value in fields.items() if name in TOLD and value != ""]
    return f"{type(event).__name__:<18} {' '.join(texts)}".rstrip()


async def call(reactor: Any, folder: Path) -> None:
    """Start everything, make the call, tell of it, stop everything."""
    application = Application()
    site = Site(application.klein.resource())
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    port = free_port()
    service = make_service(folder, port)
    service.startService()
    try:
        print(f"plivotx listens on 127.0.0.1:{port}, the application on 127.0.0.1:{listening.getHost().port}")
        began, stream = await post(reactor, port, listening.getHost().port)
        print(f"POST /v0.1/Call/ was accepted; RequestUUID {stream}\n", flush=True)
        await application.hung_up
        while not isinstance(recorded(folder, stream)[-1][1], CallClosed):
            await deferLater(reactor, 0.05)
    finally:
        await service.stopService()
        await listening.stopListening()
    events = recorded(folder, stream)
    lines = [*(Line(at, "log", told(event)) for at, event in events), *application.heard]
    for line in sorted(lines, key=lambda each: each.at):
        print(f"{line.at - began:7.3f} s  {line.where:<12} {line.what}")
    pages = [each.what.split()[0] for each in application.heard]
    if pages != ["/ring/", "/answer/", "/hangup/"]:
        raise DemoError(f"the application was expected to be asked for ring, answer, hangup, not {pages}")


async def demo(reactor: Any) -> None:
    """Make the call within the time that is given to it."""
    complaints = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([complaints], redirectStandardIO=False)
    over: Deferred[None] = Deferred()
    try:
        with TemporaryDirectory(prefix="plivotx-demo-") as folder:
            work = Deferred.fromCoroutine(call(reactor, Path(folder))).addTimeout(PATIENCE, reactor)

            def give_up() -> Deferred[None]:
                """Leave nothing behind: a server that cannot start stops the reactor and ends the process."""
                work.cancel()
                return over

            reactor.addSystemEventTrigger("before", "shutdown", give_up)
            await work
    except Exception as error:
        why = "the server has stopped" if isinstance(error, CancelledError) else f"{error!r}"
        print(f"the demo failed: {why}", file=sys.stderr, flush=True)
        raise SystemExit(1)
    finally:
        over.callback(None)
    print("\nThe call is over, and the application knows.  `twistd -n plivotx` serves calls of your own.")


def main() -> None:
    """Run the demo and exit."""
    react(lambda reactor: Deferred.fromCoroutine(demo(reactor)))


if __name__ == "__main__":
    main()
