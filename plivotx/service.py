"""The composition root: `twistd plivotx` makes everything real here and hands it on.  Nobody imports this."""

import gc

gc.disable()  # what is imported is no garbage, and to look through it takes a fifth of the time

import atexit
import os
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any, ClassVar, NoReturn, cast

from twisted.application.service import Service
from twisted.internet import endpoints
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from plivotx.checking import Unusable, certificate, checked, findings
from plivotx.config import EMULATOR, Config, SwitchConfig, split_address
from plivotx.config_file import Loaded
from plivotx.esl.connections import Switch
from plivotx.handlers.agent import make_agent
from plivotx.log.interface import Log, Unwritable
from plivotx.log.memory import MemoryLog
from plivotx.log.sqlite import SQLiteLog
from plivotx.plugins import Plugins
from plivotx.rest.app import site
from plivotx.server import Plivotx
from plivotx.standstill import Watcher
from plivotx.waiting import sleep

gc.freeze()
gc.enable()

lines = Logger()

GARBAGE = (50_000, 20, 10)
"""How many objects are made before Python looks for garbage (`gc.set_threshold`): its own 700 are a handful of calls."""


def steady(reactor: Any) -> None:
    """Make *reactor* count time on the monotonic clock.

    Twisted's counts on the wall clock: a step of that would end every wait at once, or keep every one
    waiting for as long as it was set back.  Timers that exist already keep what remained of them.
    """
    before = reactor.seconds()
    waiting = [(each, each.getTime() - before) for each in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for each, left in waiting:
        each.seconds = reactor.seconds
        each.reset(max(0.0, left))


def pass_over_hangups(reactor: Any) -> None:
    """Have SIGHUP be no more than a line in the log, unless it means that the terminal was closed.

    Many servers read their configuration or open their log file again at that, and so it is sent to all kinds.
    """
    if os.isatty(0) or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        return

    def say() -> None:
        lines.warn(
            "SIGHUP is passed over: the configuration is read at the start only, and a restart ends no call"
        )

    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(say))


def open_log(config: Config, reactor: Any) -> "Deferred[Log]":
    """Open the log that the configuration names; fails with `Unopenable`."""
    kind, _, rest = config.log.partition(":")
    if kind == "sqlite":
        path = Path(rest)
        path.parent.mkdir(parents=True, exist_ok=True)
        return cast("Deferred[Log]", SQLiteLog.open(str(path), reactor))
    if kind == "redis":
        from plivotx.log.redis import RedisLog  # noqa: PLC0415 - most do without

        return cast("Deferred[Log]", RedisLog.open(config.log, reactor))
    return succeed(MemoryLog())


def switches(config: Config, reactor: Any) -> dict[str, Switch]:
    """All switches by name, none of them connected yet."""
    dice = Random().random  # noqa: S311 - jitter
    return {
        each.name: Switch(each.name, endpoint(each, reactor), each.password, reactor, dice)
        for each in config.switches
    }


def endpoint(switch: SwitchConfig, reactor: Any) -> IStreamClientEndpoint:
    """Where a switch is: a real one, or an emulator of its own within this process."""
    if switch.address == EMULATOR:
        from plivotx.emulator.memory import Network  # noqa: PLC0415 - who has a real one does without
        from plivotx.emulator.switch import Switch as Emulated  # noqa: PLC0415

        # a seed of its own: that another one runs after a restart must show by its Core-UUID
        seed = Random().getrandbits(32)  # noqa: S311 - no secret
        emulated = Emulated(reactor, seed=seed, wall=time.time(), password=switch.password)
        return Network(reactor, emulated).endpoint()
    host, port = split_address(switch.address)
    return endpoints.HostnameEndpoint(reactor, host, port, timeout=10)


def listening(config: Config, reactor: Any) -> IStreamServerEndpoint:
    """Where the API listens; raises ConfigError."""
    host, port = split_address(config.http_address)
    if config.ssl:
        context = certificate(config.ssl_cert)
        return endpoints.SSL4ServerEndpoint(reactor, port, context, backlog=1024, interface=host)
    return endpoints.TCP4ServerEndpoint(reactor, port, interface=host, backlog=1024)


class PlivotxService(Service):
    """Everything, from `twistd plivotx`."""

    def __init__(self, loaded: Loaded, plugins: Plugins, reactor: Any) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._plugins = plugins
        self._reactor = reactor
        self._log: Log | None = None
        self._server: Plivotx | None = None
        self._port: IListeningPort | None = None
        self._starting: Deferred[None] | None = None
        self._forgetting: Deferred[None] | None = None
        self._watcher = Watcher(reactor, plugins.files)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        pass_over_hangups(self._reactor)
        self._reactor.callWhenRunning(self._watch)
        for each in self._loaded.warnings:
            lines.warn("{remark}", remark=each)
        for each in self._loaded.notes:
            lines.info("{remark}", remark=each)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    def _watch(self) -> None:
        if self.running:  # it may have been stopped before the reactor ran
            self._watcher.start()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):  # told to stop while it was starting
            return
        lines.error("plivotx cannot start: {why}", why=failure.getErrorMessage())
        lines.debug("{trace}", trace=failure.getTraceback())
        # Twisted has no way to say how a process ends; whoever started this one must learn of it.
        atexit.register(_end_badly)
        self._reactor.callWhenRunning(self._reactor.stop)  # it may have failed before the reactor runs

    async def _start(self) -> None:
        config, reactor = self._config, self._reactor
        self._log = await open_log(config, reactor)
        agent = make_agent(config, reactor)
        self._server = Plivotx(config, self._log, switches(config, reactor), agent, reactor, self._plugins)
        # Nothing of what is loaded is garbage, and to look through ten thousand calls for some takes seconds.
        gc.disable()
        try:
            await self._server.start()
            gc.freeze()
            gc.set_threshold(*GARBAGE)
        finally:
            gc.enable()
        self._port = await listening(config, reactor).listen(site(self._server.api))
        at: Any = self._port.getHost()
        host = f"[{at.host}]" if ":" in at.host else at.host
        scheme = "https" if config.ssl else "http"
        lines.info("plivotx serves {url}", url=f"{scheme}://{host}:{at.port}/v0.1/")
        for each in self._plugins.files:
            lines.debug("plugin {file}", file=each)
        self._forgetting = Deferred.fromCoroutine(self._forget(self._log))
        self._forgetting.addErrback(lambda failure: failure.trap(CancelledError) and None)

    async def _forget(self, log: Log) -> None:
        """Once an hour, let go of calls that were closed long ago."""
        while True:
            try:
                forgotten = await log.forget(time.time() - self._config.retention_hours * 3600)
                if forgotten:
                    lines.info("{count} closed calls were forgotten", count=forgotten)
            except Unwritable as error:
                lines.warn("old calls could not be forgotten: {error}", error=error)
            await sleep(self._reactor, 3600)

    async def _stop(self) -> None:
        self._watcher.stop()
        if self._starting is not None:
            self._starting.cancel()
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if self._server is not None:
            for _ in range(40):  # who has asked for a call is told what became of it
                if not self._server.api.busy:
                    break
                await sleep(self._reactor, 0.05)
            self._server.stop()
        if self._log is not None:
            await self._log.close()

    def stopService(self) -> "Deferred[None]":
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        return Deferred.fromCoroutine(self._stop())


def _end_badly() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class Options(usage.Options):
    """Options of `twistd plivotx`."""

    synopsis = "[options]"
    longdesc = (
        "A voice API server on FreeSWITCH.  Without a configuration it runs on an emulated switch and "
        "keeps its log in var/plivotx.sqlite."
    )
    optParameters: ClassVar = [
        ["config", "c", None, "Configuration file; see conf/plivotx.conf for every key."],
    ]
    optFlags: ClassVar = [
        [
            "check",
            None,
            "Read configuration, plugins and certificates, say what is wrong with them, and exit.",
        ],
    ]

    def postOptions(self) -> None:
        try:
            self.loaded, self.plugins = checked(self["config"], os.environ)
        except Unusable as error:
            _refuse(error.complaints)
        if self["check"]:
            print("\n".join(findings(self["config"], self.loaded, self.plugins)))  # noqa: T201 - was asked for
            raise SystemExit(0)


def _refuse(complaints: list[str]) -> NoReturn:
    """End at once.  Twisted's UsageError would come after a page of help, on stdout, with status 0."""
    sys.stderr.write("plivotx cannot start:\n" + "\n".join(complaints) + "\n")
    raise SystemExit(1)


def makeService(options: Options) -> Service:
    """What `twistd plivotx` runs."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it chooses it; twistd has done so by now

    steady(reactor)
    return PlivotxService(options.loaded, options.plugins, reactor)
