"""Serves an emulated FreeSWITCH on TCP: `python -m plivotx.emulator --port 8021 --password ClueCon [--seed N]`."""

import argparse
import sys
import time

from twisted.internet import reactor as installed
from twisted.internet.interfaces import IListeningPort, IReactorCore, IReactorTCP, IReactorTime

from plivotx.emulator.switch import Factory, Switch


class Steady:
    """The reactor's timers with a clock that never steps, as FreeSWITCH's own does not."""

    def __init__(self, reactor: IReactorTime) -> None:
        self.callLater = reactor.callLater
        self.getDelayedCalls = reactor.getDelayedCalls

    def seconds(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()


def main(arguments: list[str]) -> None:
    """Listen, say where, and serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m plivotx.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8021, help="0 is any free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--password", default="ClueCon")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    reactor = _Reactor(installed)
    clock = Steady(reactor.time)
    switch = Switch(clock, seed=options.seed, wall=time.time(), password=options.password)  # type: ignore[arg-type]  # zope
    port: IListeningPort = reactor.tcp.listenTCP(options.port, Factory(switch), interface=options.host)  # type: ignore[arg-type]  # zope
    address = port.getHost()
    print(f"listening on {address.host}:{address.port}", flush=True)  # type: ignore[attr-defined]  # noqa: T201 - that is what it is asked for
    reactor.core.run()


class _Reactor:
    """The installed reactor by what it is used for."""

    def __init__(self, reactor: object) -> None:
        self.time: IReactorTime = IReactorTime(reactor)
        self.tcp: IReactorTCP = IReactorTCP(reactor)
        self.core: IReactorCore = IReactorCore(reactor)


if __name__ == "__main__":
    main(sys.argv[1:])
