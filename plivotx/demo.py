"""Four calls from their POST to their end, told side by side: `python -m plivotx.demo`, or script/demo.

plivotx is a process of its own, started as anybody would (`twistd plivotx --config conf/demo.conf`).  Here
are its client, which asks for the calls and reads their records, and the application that steers them.
"""
# ruff: noqa: T201 - it is there to print

import fcntl
import math
import os
import re
import shutil
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.sax.saxutils import escape

import msgspec
import treq
from klein import Klein
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import react
from twisted.python.failure import Failure
from twisted.web.server import Site

from plivotx.plugins import shipped
from plivotx.waiting import sleep, within

PATIENCE = 45.0
"""Seconds for everything."""
STOPPING = 5.0
"""Seconds that the server has to stop in order."""
CONFIGURATION = shipped().parent / "conf" / "demo.conf"
TWISTD = """\
import os, signal, threading

def end():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end, daemon=True).start()  # the demo holds the other end, and never writes
from twisted.scripts.twistd import run
run()
"""
PREFIX = "demo-"
"""Of the names of the folders in which demos keep their log."""
LOG = "demo.sqlite"
"""The log, and the beginning of the names of all files beside it."""
WIDEST = 118
"""Columns of the output, if the terminal has so many."""
BEFORE_THE_TEXT = 28
"""Columns of a line for its time and for what it is about."""
IMPLIED = {"JobFailed", "CallbackOwed", "CallbackDelivered", "DocumentFetched", "StepStarted", "StepEnded"}
"""Events that are left out, because a line of the application or the next event tells the same."""
ANSWERED = {"VerbEnded", "VerbAbandoned", "Redirected", "ScriptEnded", "CallClosed"}
"""Events that may follow from an answer of the application within the same millisecond, the last ones of it."""


class DemoError(Exception):
    """What went wrong, for the reader."""


class Call(msgspec.Struct, frozen=True):
    """A call to be made, and how it must end."""

    title: str
    asks: dict[str, str]
    page: str
    """Where the application has the document for it."""
    cause: str
    pages: tuple[str, ...]
    """Pages of the application that must be asked for, in order."""


DEAD, BUSY, SELF = (f"sofia/gateway/{name}/" for name in ("dead", "busy", "self"))
CALLS = (
    Call(
        "Three gateways: the first is dead, the second busy, through the third somebody answers and presses 42",
        {"To": "542", "Gateways": f"{DEAD},{BUSY},{SELF}"},
        "question",
        "NORMAL_CLEARING",
        ("question", "pressed", "hangup"),
    ),
    Call(
        "No gateway gets through, though the second one is tried twice",
        {"To": "101", "Gateways": f"{DEAD},{BUSY}", "GatewayRetries": "1,2"},
        "question",
        "USER_BUSY",
        ("hangup",),
    ),
    Call(
        "HangupOnRing=2: it rings, and is hung up two seconds later",
        {"To": "300", "Gateways": SELF, "HangupOnRing": "2"},
        "question",
        "ORIGINATOR_CANCEL",
        ("ring", "hangup"),
    ),
    Call(
        "TimeLimit=3: it is answered, and hung up three seconds later",
        {"To": "101", "Gateways": SELF, "TimeLimit": "3"},
        "patience",
        "ALLOTTED_TIMEOUT",
        ("ring", "patience", "hangup"),
    ),
)


class Line(msgspec.Struct, frozen=True):
    """Something that happened."""

    at: float
    what: str
    text: str


# -- the application -------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """A request as the application got it, and what it answered."""

    at: float
    page: str
    params: dict[str, str]
    document: str

    def line(self) -> Line:
        """What to say of it: the parameters that tell what goes on."""
        known = ("CallStatus", "Digits", "HangupCause")
        shown = [f"{name}={self.params[name]}" for name in known if name in self.params]
        answers = f"\nanswers {self.document}" if self.document else ""
        at = math.floor(self.at * 1000) / 1000  # as the server tells times
        return Line(at, "> application", f"gets POST /{self.page}/ {' '.join(shown)}{answers}")


class Application:
    """The customer's web server: steers the calls with documents and keeps what it is told."""

    port = 0
    """Where it listens, once it does."""

    def __init__(self) -> None:
        self.klein: Any = Klein()
        self.received: list[Received] = []
        self.klein.route("/<page>/", methods=["POST"])(self.answer)

    def url(self, page: str) -> str:
        """Where a page is."""
        return f"http://127.0.0.1:{self.port}/{page}/"

    def answer(self, request: Any, page: str) -> str:
        """Take one request of plivotx."""
        params = {name.decode(): values[0].decode() for name, values in request.args.items()}
        document = self.document(page, params)
        self.received.append(Received(time.time(), page, params, document))
        request.setHeader("Content-Type", "text/xml")
        return document

    def document(self, page: str, params: dict[str, str]) -> str:
        """What the caller shall hear now; nothing for the pages that are only told."""
        if page == "question":
            return (
                f'<Response><GetDigits action="{self.url("pressed")}" numDigits="2">'
                "<Speak>Welcome. Please press two digits.</Speak></GetDigits></Response>"
            )
        if page == "pressed":
            digits = escape(params.get("Digits", "nothing"))
            return f"<Response><Speak>You pressed {digits}. Goodbye.</Speak><Hangup/></Response>"
        if page == "patience":
            return '<Response><Speak>Please hold the line.</Speak><Wait length="600"/></Response>'
        return ""


# -- the server ------------------------------------------------------------------------------------


class Server(ProcessProtocol):
    """`twistd plivotx` as a process of its own."""

    def __init__(self, reactor: Any, folder: Path, lock: int) -> None:
        self._reactor = reactor
        self.address = f"127.0.0.1:{free_port()}"
        self.said = ""
        self.ended: Deferred[None] = Deferred()
        settings = {name: value for name, value in os.environ.items() if not name.startswith("PLIVOTX_")}
        settings["PLIVOTX_HTTP_ADDRESS"] = self.address
        settings["PLIVOTX_LOG"] = f"sqlite:{folder / LOG}"
        command = [sys.executable, "-c", TWISTD, "-n", "--pidfile="]
        command += ["plivotx", "--config", str(CONFIGURATION)]
        files: dict[int, Any] = {
            0: "w",
            1: "r",
            2: "r",
            3: lock,
        }  # it needs the folder for as long as it lives
        self._process = reactor.spawnProcess(self, sys.executable, command, env=settings, childFDs=files)

    def outReceived(self, data: bytes) -> None:
        self.said += data.decode(errors="replace")

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        del reason  # nobody stops it but this process, and then how it ended does not matter
        self.ended.callback(None)

    def check(self) -> None:
        """Raise DemoError if it has stopped."""
        if self.ended.called:
            said = "\n".join(self.complaints()) or self.said
            raise DemoError(f"plivotx has stopped; it said\n{said}")

    def complaints(self) -> list[str]:
        """The lines of its output that somebody should look at."""
        return re.findall(r"^.*#(?:warn|error|critical)\].*$", self.said, re.MULTILINE)

    async def stop(self) -> None:
        """Stop it in order, or not."""
        for name in ("TERM", "KILL"):
            with suppress(ProcessExitedAlready):
                self._process.signalProcess(name)
            end = self._reactor.seconds() + STOPPING
            while not self.ended.called and self._reactor.seconds() < end:
                await sleep(self._reactor, 0.02)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- its folder ------------------------------------------------------------------------------------


@contextmanager
def own_folder(place: Path) -> Iterator[tuple[Path, int]]:
    """A folder in *place* that is removed in the end, and the open file by which it is locked until then.

    The folders of demos that were killed are removed first.  A lock lasts as long as any process has its file
    open: the demo, and its server, which may outlive it for a moment.
    """
    with ExitStack() as kept:
        with _opened(place) as turn:
            _locked(turn, fcntl.LOCK_EX)  # a new folder of another demo may not be locked yet
            for each in place.glob(f"{PREFIX}*"):
                with suppress(OSError), _opened(each) as lock:  # if it is a folder, and still there
                    ours = all(file.name.startswith(LOG) for file in each.iterdir())
                    if ours and _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        shutil.rmtree(each)
            folder = TemporaryDirectory(prefix=PREFIX, dir=place)
            lock = kept.enter_context(_opened(Path(folder.name)))
            _locked(lock, fcntl.LOCK_EX)
            kept.enter_context(folder)
        yield Path(folder.name), lock


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield file
    finally:
        os.close(file)


def _locked(file: int, how: int) -> bool:
    """Whether the folder is locked now; there are file systems that lock none."""
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True


# -- its client ------------------------------------------------------------------------------------


async def make(reactor: Any, server: Server, application: Application, call: Call) -> dict[str, Any]:
    """Ask for a call, wait until all is over, and give its record."""
    form = {
        "From": "1000",
        **call.asks,
        "AnswerUrl": application.url(call.page),
        "RingUrl": application.url("ring"),
        "HangupUrl": application.url("hangup"),
    }
    accepted = await ask(reactor, server, "POST", "/v0.1/Call/", data=form)
    while True:
        answer = await ask(reactor, server, "GET", f"/v0.1/Calls/{accepted['RequestUUID']}/")
        record: dict[str, Any] = answer["Call"]
        if record["State"] == "closed":
            return record
        await sleep(reactor, 0.2)


async def ask(reactor: Any, server: Server, method: str, path: str, **more: Any) -> dict[str, Any]:
    """One request to the API, as soon as somebody listens; raises DemoError if it is refused."""
    while True:
        server.check()
        with suppress(ConnectError):  # it has not started yet
            url = f"http://{server.address}{path}"
            response = await treq.request(method, url, persistent=False, reactor=reactor, **more)
            answer: dict[str, Any] = await response.json()
            if not answer["Success"]:
                raise DemoError(f"{method} {path} was refused: {answer['Message']}")
            return answer
        await sleep(reactor, 0.05)


# -- the story -------------------------------------------------------------------------------------


def story(record: dict[str, Any], received: Iterable[Received]) -> list[Line]:
    """What happened in a call: its timeline and what the application got, in order."""
    failed = {each["Number"] for each in record["Attempts"] if each["Why"]}
    ends = tuple(f"The channel of attempt {number} has ended" for number in failed)
    lines = [
        Line(datetime.fromisoformat(each["Time"]).timestamp(), each["Event"], each["Text"])
        for each in record["Timeline"]
        if each["Event"] not in IMPLIED and not each["Text"].startswith(ends)
    ]
    return sorted([*lines, *(each.line() for each in received)], key=_order)


def _order(line: Line) -> tuple[int, int]:
    """Milliseconds; within one, what the application was asked comes before what its answer led to."""
    return round(line.at * 1000), 2 if line.what in ANSWERED else 1 if line.what.startswith(">") else 0


def shown(lines: Iterable[Line], began: float, style: "Style") -> Iterator[str]:
    """Each line with its time since the beginning, folded to the width of the terminal."""
    for each in lines:
        head = f"  {max(0.0, each.at - began):6.2f} s  {each.what:<{BEFORE_THE_TEXT - 13}} "
        width = style.width - BEFORE_THE_TEXT
        first, *rest = [part for line in each.text.splitlines() for part in textwrap.wrap(line, width)]
        colour = style.told if each.what.startswith(">") else style.plain
        yield f"{colour}{head}{first}{style.plain}"
        for more in rest:
            yield f"{colour}{' ' * BEFORE_THE_TEXT}{more}{style.plain}"


class Style(msgspec.Struct, frozen=True):
    """How the terminal is written to."""

    width: int = WIDEST
    title: str = ""
    told: str = ""
    plain: str = ""


def style() -> Style:
    """Colours for a terminal that has them; for anything else plain text."""
    if not sys.stdout.isatty():
        return Style()
    width = max(60, min(WIDEST, shutil.get_terminal_size().columns))
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return Style(width)
    return Style(width, "\033[1m", "\033[36m", "\033[0m")


def tell(number: int, call: Call, record: dict[str, Any], received: list[Received], look: Style) -> None:
    """Print what became of a call; raises DemoError if it is not what had to."""
    asks = " ".join(f"{name}={value}" for name, value in call.asks.items())
    print(f"\n{look.title}{number}. {call.title}.{look.plain}\n   POST /v0.1/Call/ From=1000 {asks}")
    lines = story(record, received)
    for line in shown(lines, datetime.fromisoformat(record["Created"]).timestamp(), look):
        print(line)
    pages = tuple(each.page for each in received)
    if (record["HangupCause"], pages) != (call.cause, call.pages):
        raise DemoError(
            f"call {number} ended with {record['HangupCause']} and the application was asked for"
            f" {', '.join(pages)}; expected were {call.cause} and {', '.join(call.pages)}"
        )


async def calls(reactor: Any, folder: Path, lock: int) -> None:
    """Start everything, make the calls, tell of them, stop everything; *folder* and *lock* are those of `own_folder`."""
    look = style()
    application = Application()
    site = Site(application.klein.resource())
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    application.port = listening.getHost().port
    server = Server(reactor, folder, lock)
    making: list[Deferred[dict[str, Any]]] = []

    def give_up() -> None:
        """End whatever waits for the server."""
        for each in making:
            each.cancel()

    server.ended.addCallback(lambda _: give_up())
    try:
        print(
            f"plivotx is started on {server.address}: twistd -n plivotx --config conf/demo.conf\n"
            f"An application is started on 127.0.0.1:{application.port}.  Four calls are made at the same time ...",
            flush=True,
        )
        making += [Deferred.fromCoroutine(make(reactor, server, application, each)) for each in CALLS]
        records = await gatherResults(making, consumeErrors=True)
    except FirstError as error:
        server.check()  # or else it is something with that call
        error.subFailure.raiseException()
    finally:
        give_up()
        await server.stop()
        await listening.stopListening()
    for number, (call, record) in enumerate(zip(CALLS, records, strict=True), 1):
        uuid = record["RequestUUID"]
        received = [each for each in application.received if each.params["RequestUUID"] == uuid]
        tell(number, call, record, received, look)
    if found := server.complaints():
        raise DemoError("plivotx complained:\n" + "\n".join(found))


async def demo(reactor: Any, place: Path) -> None:
    """Make the calls within the time that is given to them; *place* is for the log."""
    told_to_end = False
    over: Deferred[None] = Deferred()
    try:
        with own_folder(place) as (folder, lock):
            work = Deferred.fromCoroutine(calls(reactor, folder, lock))

            def give_up() -> Deferred[None]:
                """Leave nothing behind."""
                nonlocal told_to_end
                told_to_end = not work.called
                work.cancel()
                return over

            reactor.addSystemEventTrigger("before", "shutdown", give_up)
            await within(reactor, PATIENCE, work, f"it took more than {PATIENCE:g} s")
    except Exception as error:
        why = "it was told to end" if told_to_end else f"{error}" or repr(error)
        print(f"the demo failed: {why}", file=sys.stderr, flush=True)
        raise SystemExit(1)
    finally:
        over.callback(None)
    print(
        "\nEvery line but those of the application is an event of the call's log, told in a sentence.  Events that"
        "\nonly repeat their neighbours are left out; GET /v0.1/Calls/RequestUUID/ shows all of them."
        "\nFor calls of your own: twistd -n plivotx --config conf/demo.conf, and see README.md."
    )


def main() -> None:
    """Run the demo and exit."""
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    place = Path("var").resolve()
    place.mkdir(exist_ok=True)
    react(lambda reactor: Deferred.fromCoroutine(demo(reactor, place)))


if __name__ == "__main__":
    main()
