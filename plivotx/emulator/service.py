"""`twistd plivotx-emulator`: an emulated FreeSWITCH whose event socket is a TCP port."""

import time
from random import Random
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python import usage

from plivotx.emulator.switch import Factory, Switch

lines = Logger()


class Steady:
    """The reactor's timers with a clock that never steps, as FreeSWITCH's own does not."""

    def __init__(self, reactor: IReactorTime) -> None:
        self.callLater = reactor.callLater
        self.getDelayedCalls = reactor.getDelayedCalls

    def seconds(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()


class EmulatorService(Service):
    """Serves a switch as long as it runs."""

    def __init__(self, reactor: Any, switch: Switch, host: str, port: int) -> None:
        self._reactor = reactor
        self._switch = switch
        self._where = host, port
        self._port: Any = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        host, port = self._where
        try:
            self._port = self._reactor.listenTCP(port, Factory(self._switch), interface=host)
        except CannotListenError as error:
            raise SystemExit(f"plivotx-emulator cannot start: {error}")
        address = self._port.getHost()
        lines.info("plivotx-emulator listens on {host}:{port}", host=address.host, port=address.port)

    def stopService(self) -> Any:
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        self._switch.stop()
        return self._port.stopListening()


def port(text: str) -> int:
    """A port, or 0 for any free one; raises ValueError."""
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"--port {text!r} is wrong: it must be 0 to 65535")
    return int(text)


def seed(text: str) -> int:
    """Any whole number; raises ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--seed {text!r} is wrong: it must be a whole number")


port.coerceDoc = seed.coerceDoc = ""  # type: ignore[attr-defined]  # Twisted would complain of its absence


class Options(usage.Options):
    """Options of `twistd plivotx-emulator`."""

    synopsis = "[options]"
    longdesc = (
        "A FreeSWITCH event socket without FreeSWITCH.  The number that is dialled says what the called party"
        " does; docs/emulator.md has them all."
    )
    optParameters: ClassVar = [
        ["port", "p", 8021, "Where it listens; 0 is any free one, which the log names.", port],
        ["host", None, "127.0.0.1", "Address on which it listens."],
        ["password", None, "ClueCon", "What clients must give as their password."],
        [
            "seed",
            None,
            None,
            "For its UUIDs and dice: the same seed makes the same ones; else chosen anew.",
            seed,
        ],
    ]


def makeService(options: Options) -> Service:
    """What `twistd plivotx-emulator` runs."""
    from twisted.internet import reactor as installed  # noqa: PLC0415 - importing it chooses it; twistd has by now

    reactor: Any = installed
    clock: Any = Steady(reactor)
    # started again it has lost its calls, which must show by its Core-UUID
    chosen = Random().getrandbits(32) if options["seed"] is None else options["seed"]  # noqa: S311 - no secret
    switch = Switch(clock, seed=chosen, wall=time.time(), password=options["password"])
    return EmulatorService(reactor, switch, options["host"], options["port"])
