"""An application and its calls: `python -m benchmarks.callers PORT SERVER CALLS AT_ONCE SECONDS`.

The application listens on PORT.  It asks the server on port SERVER for so many calls, at most so many at once, each
of which waits for so many seconds and hangs up; 0 seconds stand for one that never does, and counts as done
when its document was asked for.  The last line of the output is how many are done, and in how many seconds;
then the application goes on answering until it is stopped.
"""

import sys
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from benchmarks.load import FORM, post, whole

reactor: Any = installed
CONNECTIONS = 8


class Poster(Protocol):
    """One connection to the server; one request at a time."""

    def __init__(self, calls: "Calls") -> None:
        self._calls = calls
        self._answer = bytearray()

    def post(self) -> None:
        """Ask for a call."""
        assert self.transport is not None
        self.transport.write(self._calls.request)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data
        if whole(self._answer):
            if b'"Success": true' not in self._answer:
                print(f"refused: {bytes(self._answer)!r}", flush=True)
                reactor.stop()
            self._answer.clear()
            self._calls.idle.append(self)
            self._calls.go_on()


class Calls:
    """The calls, and how far they are."""

    def __init__(self, port: int, calls: int, at_once: int, seconds: int) -> None:
        pages = {
            f"{page.title()}Url": f"http://127.0.0.1:{port}/{page}/" for page in ("answer", "ring", "hangup")
        }
        self.request = post({**FORM, "To": "100", "Gateways": "sofia/gateway/self/", **pages})
        self.document = f'<Response><Wait length="{seconds or 9999}"/><Hangup/></Response>'.encode()
        self.last_page = b"/hangup/" if seconds else b"/answer/"
        self.idle: list[Poster] = []
        self._calls = calls
        self._at_once = at_once
        self._posted = 0
        self._done = 0
        self._began = time.monotonic()

    def go_on(self) -> None:
        """Ask for as many calls as may be asked for now."""
        while self.idle and self._posted < min(self._calls, self._done + self._at_once):
            self._posted += 1
            self.idle.pop().post()

    def asked(self, page: bytes) -> None:
        """The server has asked for a page."""
        if page == self.last_page:
            self._done += 1
            if self._done == self._calls:
                print(f"done: {self._done} {time.monotonic() - self._began}", flush=True)
            self.go_on()


class Application(Protocol):
    """Answers what the server asks over one connection, with as little work as may be: the machine has few cores."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._asked = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._asked += data
        if not whole(self._asked):
            return
        page = bytes(self._asked.split(maxsplit=2)[1])
        self._asked.clear()
        body = self._calls.document if page == b"/answer/" else b""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        assert self.transport is not None
        self.transport.write(head.encode() + body)
        self._calls.asked(page)


def main(port: int, server: int, calls: int, at_once: int, seconds: int) -> None:
    """Serve, and ask."""
    all_calls = Calls(port, calls, at_once, seconds)
    application = Factory.forProtocol(lambda: Application(all_calls))
    reactor.listenTCP(port, application, backlog=1024, interface="127.0.0.1")
    for _ in range(CONNECTIONS):
        connected = connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", server), Poster(all_calls))
        connected.addCallback(all_calls.idle.append).addCallback(lambda _: all_calls.go_on())
    reactor.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
