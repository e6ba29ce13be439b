"""A switch that has every channel it is asked for, each in the step it is asked about: `python -m benchmarks.answering CORE SECONDS`.

It says no more than plivotx asks after it has connected; its clock shows SECONDS of the epoch at the start.
"""

import sys
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall

reactor: Any = installed
BEAT = 10.0
"""Seconds between two signs of life."""
CORE = sys.argv[1]
OFFSET = float(sys.argv[2]) - time.monotonic()


def now() -> int:
    """Its clock, microseconds."""
    return int((OFFSET + time.monotonic()) * 1e6)


def answer(command: str) -> str:
    """What an API command prints."""
    match command.split(maxsplit=1)[0]:
        case "uuid_dump":
            return (
                f'{{"Event-Date-Timestamp":"{now()}","Answer-State":"answered",'
                f'"variable_current_application":"playback","variable_plivotx_step":"1/0/1"}}'
            )
        case "global_getvar":
            return CORE
        case "strepoch":
            return str(now() // 1_000_000)
        case "show":
            return '{"row_count":0}'
    return ""


class Answering(Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._read = b""
        self._beat = LoopingCall(self._event)

    def connectionMade(self) -> None:
        self._say("auth/request")

    def dataReceived(self, data: bytes) -> None:
        *commands, self._read = (self._read + data).split(b"\n\n")
        for each in commands:
            word, _, rest = each.decode().partition(" ")
            if word == "api":
                self._say("api/response", answer(rest))
            else:
                self._say("command/reply\nReply-Text: +OK")
            if word == "event":
                self._beat.start(BEAT)

    def connectionLost(self, reason: Any = None) -> None:
        del reason
        if self._beat.running:
            self._beat.stop()

    def _event(self) -> None:
        self._say("text/event-json", f'{{"Event-Name":"HEARTBEAT","Event-Date-Timestamp":"{now()}"}}')

    def _say(self, kind: str, body: str = "") -> None:
        assert self.transport is not None
        length = f"Content-Length: {len(body)}\n" if body else ""
        self.transport.write(f"{length}Content-Type: {kind}\n\n{body}".encode())


if __name__ == "__main__":
    listening = reactor.listenTCP(0, Factory.forProtocol(Answering), interface="127.0.0.1")
    print(f"listens on 127.0.0.1:{listening.getHost().port}", flush=True)
    reactor.run()
