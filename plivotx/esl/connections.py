"""The two connections to one FreeSWITCH, and how they heal.

One is for events and one for commands, because an `api` command blocks its connection.  They live and
die together: when either is lost both are closed, made anew after a while, and every open call is
compared with what the switch says.  What the bytes mean is `plivotx.esl.session`'s business.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.esl import translate
from plivotx.esl.frames import FrameReader, PeerError
from plivotx.esl.session import MARK, UNHEARD, Closing, Greeted, Happened, Headers, Replied, Reply, Session
from plivotx.waiting import sleep

log = Logger()

REPLY_LIMIT = 15.0
"""Seconds for a reply; none of our commands takes FreeSWITCH longer."""
SILENCE_LIMIT = 50.0
"""Seconds without a byte on the event connection.  A HEARTBEAT comes every 20 s."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0
"""Seconds between two tries to connect; doubled each time, half of it by chance."""
CLOCK_WINDOW = 300.0
"""Seconds after which the estimate of the switch's clock forgets what it saw."""


class Waiters:
    """Those who wait for the same, in the order of coming; ten thousand channels may, and each of them may leave."""

    def __init__(self) -> None:
        self._all: dict[Deferred[None], None] = {}

    def add(self) -> Deferred[None]:
        """One more; it leaves when it is cancelled."""
        waiter: Deferred[None] = Deferred(self._leave)
        self._all[waiter] = None
        return waiter

    def _leave(self, waiter: Deferred[None]) -> None:
        self._all.pop(waiter, None)

    def wake(self, waiter: Deferred[None]) -> None:
        """Let this one go on, if it still waits."""
        if waiter in self._all:
            del self._all[waiter]
            waiter.callback(None)

    def wake_all(self) -> None:
        """Let all go on who wait now."""
        for waiter in list(self._all):
            self.wake(waiter)


class Disconnected(Exception):
    """The connection is not there or was lost; whether the command was executed is not known."""


class SwitchClock:
    """An estimate of a switch's clock, from the timestamps of what it sends.

    FreeSWITCH runs its clock on a monotonic one (switch_time.c), and so do we, so the difference is
    nearly constant: the largest one seen is that of the message which came the fastest.  Old readings
    are forgotten, so that two clocks may drift.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._windows: list[tuple[float, float]] = []  # (begin, largest difference), the latest last
        self._waiting = Waiters()

    def observe(self, microseconds: int) -> None:
        """Learn from a timestamp that was received just now."""
        here = self._clock.seconds()
        difference = microseconds / 1e6 - here
        if not self._windows or here - self._windows[-1][0] > CLOCK_WINDOW:
            self._windows = [*self._windows[-1:], (here, difference)]
        elif difference > self._windows[-1][1]:
            self._windows[-1] = (self._windows[-1][0], difference)
        self._waiting.wake_all()

    def when_known(self) -> Deferred[None]:
        """Fires when something is known of the switch's clock; at once if it is."""
        return succeed(None) if self._windows else self._waiting.add()

    def remaining(self, microseconds: int) -> float | None:
        """Seconds until the switch's clock shows *microseconds*; None as long as nothing is known of it."""
        if not self._windows:
            return None
        return microseconds / 1e6 - self._clock.seconds() - max(each for _, each in self._windows)

    def reset(self) -> None:
        """Forget everything: another FreeSWITCH answers now."""
        self._windows = []


class Link(Protocol):
    """One connection."""

    def __init__(self, password: str, clock: IReactorTime, happened: Callable[[Headers], None]) -> None:
        self._session = Session(password)
        self._reader = FrameReader()
        self._clock = clock
        self._happened = happened
        self._replies: deque[tuple[float, Deferred[Reply] | None]] = deque()
        self._why = "the connection was lost"
        self.heard = 0.0
        self.authenticated: Deferred[Reply] = Deferred()
        self.lost: Deferred[str] = Deferred()
        self.gone = False

    def connectionMade(self) -> None:
        self.heard = self._clock.seconds()

    def dataReceived(self, data: bytes) -> None:
        self.heard = self._clock.seconds()
        try:
            for frame in self._reader.feed(data):
                for incoming in self._session.receive(frame):
                    if self.gone:
                        return  # closed by what came before: nothing of it counts any more
                    self._take(incoming)
        except PeerError as error:
            self.abort(str(error))

    def _take(self, incoming: Greeted | Replied | Happened | Closing) -> None:
        match incoming:
            case Replied():
                _, waiting = self._replies.popleft()
                if waiting is not None:
                    waiting.callback(incoming.reply)
            case Happened():
                self._happened(incoming.event)
            case Greeted():
                self._write(lambda session: session.authenticate()).chainDeferred(self.authenticated)
            case Closing():
                self._why = incoming.reason or self._why
                self.abort(self._why)

    def ask(self, command: Callable[[Session], bytes]) -> Deferred[Reply]:
        """Write a command, or several at once; the last one's reply, or `Disconnected` if it is lost."""
        if self.gone:
            return fail(Disconnected(self._why))
        return self._write(command)

    def _write(self, command: Callable[[Session], bytes]) -> Deferred[Reply]:
        before = self._session.awaited
        data = command(self._session)
        reply: Deferred[Reply] = Deferred()
        now = self._clock.seconds()
        self._replies.extend([(now, None)] * (self._session.awaited - before - 1))
        self._replies.append((now, reply))
        assert self.transport is not None
        self.transport.write(data)
        return reply

    @property
    def waiting_since(self) -> float | None:
        """When the oldest command without a reply was written."""
        return self._replies[0][0] if self._replies else None

    def abort(self, why: str) -> None:
        """Close at once; what is awaited fails."""
        self._why = why
        if self.transport is not None and not self.gone:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # TCP transports have it
            self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        del reason
        self._end()

    def _end(self) -> None:
        if self.gone:
            return
        self.gone = True
        self.lost.callback(self._why)  # first: who hears of a reply lost must find the switch down
        unanswered = [waiting for _, waiting in self._replies if waiting is not None]
        self._replies.clear()
        if not unanswered and not self.authenticated.called:
            unanswered = [self.authenticated]  # not even greeted
        for waiting in unanswered:
            if not waiting.called:  # else cancelled: nobody waits for it any more
                waiting.errback(Failure(Disconnected(self._why)))
            waiting.addErrback(_told)
        self.authenticated.addErrback(_told)


def _broken(failure: Failure, what: str) -> None:
    """Log what a loop ended with, unless it was told to end."""
    if not failure.check(CancelledError):
        log.failure("{what} broke", failure, what=what)


def _told(failure: Failure) -> None:
    """End of the line: who waits for this reply has been told, and nobody else wants to know."""
    failure.trap(Disconnected, CancelledError)


class Switch:
    """One FreeSWITCH, whether it is connected or not.

    *on_event* gets every event, *on_up* is called when both connections are there and the events are
    subscribed to; what it learns by commands is therefore never older than the events that follow.
    """

    def __init__(
        self,
        name: str,
        endpoint: IStreamClientEndpoint,
        password: str,
        clock: IReactorTime,
        chance: Callable[[], float],
    ) -> None:
        self.name = name
        self.on_event: Callable[[Switch, Headers], None] = lambda _switch, _event: None
        self.on_up: Callable[[Switch], None] = lambda _switch: None
        self.time = SwitchClock(clock)
        self.core = ""
        self.version = ""
        self.epoch = 0
        """Grows with every connection; what was seen under another one may have been missed since."""
        self._endpoint = endpoint
        self._password = password
        self._clock = clock
        self._chance = chance
        self._events: Link | None = None
        self._commands: Link | None = None
        self.coming = Waiters()
        """They go on when it is connected."""
        self.changing = Waiters()
        """They go on when the present connection is lost."""
        self._watching: IDelayedCall | None = None
        self._work: Deferred[None] | None = None
        self._stopped = False

    # -- use

    @property
    def up(self) -> bool:
        """Whether commands can be sent."""
        events, commands = self._events, self._commands
        return events is not None and not events.gone and commands is not None and not commands.gone

    def api(self, text: str) -> Deferred[Reply]:
        """Run a quick API command."""
        return self._ask(lambda session: session.api(text))

    def bgapi(self, text: str, job: str) -> Deferred[Reply]:
        """Run an API command in the background; fires when FreeSWITCH took it."""
        return self._ask(lambda session: session.bgapi(text, job))

    def step(self, uuid: str, key: str, app: str, arg: str, before: Sequence[str]) -> Deferred[Reply]:
        """Queue an application between its two marks, behind some API commands; see `Session.step`."""
        return self._ask(lambda session: session.step(uuid, key, app, arg, before))

    def _ask(self, command: Callable[[Session], bytes]) -> Deferred[Reply]:
        if self._commands is None:
            return fail(Disconnected(f"switch {self.name} is not connected"))
        return self._commands.ask(command)

    def when_up(self) -> Deferred[None]:
        """Fires when the switch is connected; at once if it is."""
        return succeed(None) if self.up else self.coming.add()

    def lose(self, why: str) -> None:
        """Close both connections and make them anew: what they told us could not be kept."""
        for link in (self._events, self._commands):
            if link is not None:
                link.abort(why)

    # -- life

    def start(self) -> None:
        """Connect, and again whenever the connection is lost, until `stop`."""
        self._work = Deferred.fromCoroutine(self._live())
        self._work.addErrback(_broken, "connecting to a switch")

    def stop(self) -> None:
        """Close both connections and stay away."""
        self._stopped = True
        if self._work is not None:
            self._work.cancel()
        self.lose("stopped")
        self._down()

    async def _live(self) -> None:
        failures = 0
        while True:
            links: list[Link] = []
            try:
                await self._connect(links)
                failures = 0
                log.info("switch {name} is connected ({version})", name=self.name, version=self.version)
                why = await _first([each.lost for each in links])
            except CancelledError:
                raise
            except Exception as error:  # whatever keeps us from it: wait, try again
                if self._stopped:  # an endpoint has a word of its own for being cancelled
                    raise CancelledError from error
                why = str(error) or type(error).__name__
            finally:
                for link in links:
                    link.abort("the other connection was lost")
                self._down()
            failures += 1
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 10)) * (
                0.5 + 0.5 * self._chance()
            )
            log.warn(
                "switch {name} is not connected ({why}); next try in {delay:.1f} s",
                name=self.name,
                why=why,
                delay=delay,
            )
            await sleep(self._clock, delay)

    async def _connect(self, links: list[Link]) -> None:
        for _ in range(2):
            factory = Factory.forProtocol(lambda: Link(self._password, self._clock, self._happened))
            factory.noisy = False
            connecting = self._endpoint.connect(factory)
            giving_up = self._clock.callLater(REPLY_LIMIT, connecting.cancel)
            try:
                link = await connecting
            except CancelledError:
                if giving_up.active():
                    raise
                raise Disconnected(f"no connection within {REPLY_LIMIT:g} s")
            finally:
                if giving_up.active():
                    giving_up.cancel()
            assert isinstance(link, Link)
            links.append(link)
            if len(links) == 1:
                self._watch(links)
            reply = None if link.gone else await link.authenticated
            if reply is None:
                raise Disconnected("the connection was closed at once")
            if not reply.ok:
                raise Disconnected(f"FreeSWITCH refuses the password: {reply.text}")
        events, commands = links
        await self._subscribe(events)
        await self._probe(commands)
        self._events, self._commands = events, commands
        self.epoch += 1
        self.coming.wake_all()
        self.on_up(self)

    async def _subscribe(self, events: Link) -> None:
        names = ("BACKGROUND_JOB", "HEARTBEAT", *translate.CHANNEL_EVENTS)
        # Our channels and jobs have UUIDs of version 5: the 15th character tells them from all others.
        # Of the events of a call that has one step, five of twelve are kept out.
        filters = [
            ("Unique-ID", "/^.{14}5/"),
            ("Job-UUID", "/^.{14}5/"),
            ("Event-Name", "HEARTBEAT"),
            ("Application-UUID", f"-{MARK}"),
            *(("Application", f"-{each}") for each in UNHEARD),
        ]

        def let_pass(header: str, value: str) -> Deferred[Reply]:
            return events.ask(lambda session: session.filter_(header, value))

        replies = [let_pass(*each) for each in filters]
        for reply in (*replies, events.ask(lambda session: session.events_json(names))):
            answer = await reply
            if not answer.ok:
                raise Disconnected(f"FreeSWITCH refuses the subscription: {answer.text}")

    async def _probe(self, commands: Link) -> None:
        async def answer(text: str) -> str:
            return (await commands.ask(lambda session: session.api(text))).text.strip()

        core = await answer("global_getvar core_uuid")
        if core != self.core:
            self.time.reset()
            self.core = core
        self.version = (await answer("version")).partition("\n")[0]
        seconds = await answer("strepoch")
        if seconds.isascii() and seconds.isdigit() and len(seconds) < 12:
            self.time.observe(int(seconds) * 1_000_000)
        if (await answer("eval ${url_encode(a b)}")) == "a%20b":
            log.warn(
                "switch {name}: set api-expansion to false in its switch.conf, so that no text can run commands",
                name=self.name,
            )

    def _happened(self, event: Headers) -> None:
        stamp = translate.now(event)
        if stamp:
            self.time.observe(stamp)
        try:
            self.on_event(self, event)
        except Exception:  # an event that we cannot take must not cost the ones behind it
            log.failure("event {name} was not understood", name=event.get("Event-Name"))

    def _watch(self, links: list[Link]) -> None:
        """Notice a connection that is there and dead: no reply, no heartbeat."""
        here = self._clock.seconds()
        if here - links[0].heard > SILENCE_LIMIT:
            links[0].abort(f"nothing was heard for {SILENCE_LIMIT:g} s")
        for link in links:
            # Replies come in order: as long as any come, a long queue is no dead connection.
            if link.waiting_since is not None and here - max(link.waiting_since, link.heard) > REPLY_LIMIT:
                link.abort(f"no reply within {REPLY_LIMIT:g} s")
            elif not link.gone and not link.authenticated.called and here - link.heard > REPLY_LIMIT:
                link.abort(f"no greeting within {REPLY_LIMIT:g} s")
        if not all(each.gone for each in links):  # one of them may still be waited for
            self._watching = self._clock.callLater(REPLY_LIMIT / 3, self._watch, links)

    def _down(self) -> None:
        if self._watching is not None and self._watching.active():
            self._watching.cancel()
        self._watching = None
        self._events = self._commands = None
        self.changing.wake_all()


async def _first(several: Iterable[Deferred[str]]) -> str:
    """The result of whichever fires first; the others are left alone."""
    result: Deferred[str] = Deferred()

    def fired(value: str) -> str:
        if not result.called:
            result.callback(value)
        return value

    for each in several:
        each.addCallback(fired)
    return await result
