"""What plivotx is held against: a Klein handler with the same answer, and an agent with the same requests.

`python -m benchmarks.bare` answers each POST; with the port of an application it then asks that for the three
pages that plivotx asks for in a call, with forms as long, and does nothing with the answers.  It asks with Twisted's
agent, or with treq if that word follows.
"""

import json
import sys
import uuid
from typing import Any
from urllib.parse import urlencode

import treq
from klein import Klein
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from twisted.web.server import Request, Site
from zope.interface import implementer

from plivotx.handlers.agent import KEPT

reactor: Any = installed
PAGES = ("ring", "answer", "hangup")


@implementer(IBodyProducer)
class Body:
    """A body that is written at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        """There is nothing to resume."""

    def stopProducing(self) -> None:
        """There is nothing to stop."""


class Bare:
    """The handler."""

    app = Klein()

    def __init__(self, application: int, client: str) -> None:
        self._application = application
        self._client = client
        pool = HTTPConnectionPool(reactor, persistent=True)
        pool.maxPersistentPerHost = KEPT
        pool.retryAutomatically = False
        self._pool = pool
        self._agent = Agent(reactor, pool=pool)

    @app.route("/v0.1/Call/", methods=["POST"], strict_slashes=False)
    def call(self, request: Request) -> bytes:
        """Answer, and ask the application if there is one."""
        name = str(uuid.uuid4())
        if self._application:
            Deferred.fromCoroutine(self._ask(name)).addErrback(lambda failure: failure.printTraceback())
        request.setHeader(b"content-type", b"application/json")
        answer = {"Success": True, "Message": "Call Request Executed", "RequestUUID": name}
        return json.dumps(answer).encode()

    async def _ask(self, name: str) -> None:
        form = {
            "From": "1000",
            "To": "100",
            "Direction": "outbound",
            "CallStatus": "in-progress",
            "CallUUID": name,
            "RequestUUID": name,
            "HangupCause": "NORMAL_CLEARING",
        }
        for page in PAGES:
            url = f"http://127.0.0.1:{self._application}/{page}/"
            if self._client == "treq":
                await treq.content(await treq.post(url, data=form, pool=self._pool, timeout=30))
                continue
            response = await self._agent.request(
                b"POST",
                url.encode(),
                Headers({"User-Agent": ["bare"], "Content-Type": ["application/x-www-form-urlencoded"]}),
                Body(urlencode(form).encode()),
            )
            await readBody(response)


def main(application: int = 0, client: str = "agent") -> None:
    """Serve until stopped."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    port = reactor.listenTCP(
        0, Site(Bare(application, client).app.resource()), backlog=1024, interface="127.0.0.1"
    )
    print(f"listens on 127.0.0.1:{port.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
