"""One seed's world: its calls, its application's moods, its faults."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from twisted.internet.testing import StringTransport

from plivotx.config import Config, GatewayRules
from plivotx.emulator.channel import Channel
from plivotx.events import CallbackGivenUp
from plivotx.log.interface import Recorded
from plivotx.log.memory import MemoryLog
from plivotx.testing import APPLICATION, WALL, Answer, EmulatedWorld, Mortal, Received

CONFIG = Config(
    callback_tries=5,
    callback_retry_delay=1.0,
    callback_retry_longest=20.0,
    dial_patience=40,
    max_call_duration=900,
    plugin_path=(str(Path(__file__).parents[1] / "verbs"),),
    http_timeout=8.0,
    gateways=(
        GatewayRules(prefix="sofia/gateway/dead/", cool_down=30, cool_down_after=2),
        GatewayRules(prefix="sofia/gateway/silent/", progress_timeout=4),
        GatewayRules(prefix="sofia/gateway/trying/", progress_timeout=3, cool_down=20, cool_down_after=1),
        GatewayRules(prefix="sofia/gateway/self/603", stop_causes=("CALL_REJECTED",)),
    ),
)
ASK_AGAIN = 7.0
"""Seconds after which a client that got no answer asks again."""
MOST_RESENDS = 6
"""Of one call."""
LONGEST = 7200.0
"""Simulated seconds after which everything must be over."""
GATEWAYS = ("sofia/gateway/self/",) * 8 + (
    "sofia/gateway/dead/",
    "sofia/gateway/nosuch/",
    "sofia/gateway/silent/",
    "error/",
)
IN_LISTS = (
    "sofia/gateway/self/",
    "sofia/gateway/self/",
    "sofia/gateway/self/486",
    "sofia/gateway/self/503",
    "sofia/gateway/self/603",
    "sofia/gateway/self/702",
    "sofia/gateway/dead/",
    "sofia/gateway/nosuch/",
    "sofia/gateway/silent/",
    "sofia/gateway/trying/",
)
NUMBERS = (
    "100",
    "101",
    "103",
    "110",
    "120",
    "201",
    "206",
    "225",
    "3",
    "3",
    "404",
    "486",
    "503",
    "603",
    "512",
    "5123#",
    "6",
    "700",
    "703",
    "715",
)


class Asked(msgspec.Struct):
    """A POST: what was asked, and what was answered, if anything was."""

    at: float
    params: dict[str, str]
    answer: dict[str, Any] | None = None

    @property
    def accepted(self) -> str:
        """The RequestUUID of a call that was answered with Success."""
        return self.answer["RequestUUID"] if self.answer and self.answer["Success"] else ""


class Resend(msgspec.Struct):
    """A POST that callbacks of a call be sent again, repeated until it is answered, and the answers there were."""

    stream: str
    key: str
    """Empty for all that were given up."""
    answers: list[dict[str, Any]] = []
    posts: int = 0


class Span(msgspec.Struct):
    """A time in which plivotx could not do its work, and why."""

    begin: float
    why: str
    end: float = float("inf")


class SimulatedWorld(EmulatedWorld):
    """Everything that happens in it follows from the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(CONFIG, seed)
        self.seed = seed
        self.dice = Random(seed)
        self.calm = self.dice.random() < 0.1
        """No faults: then everything must be exact."""
        self.asked: list[Asked] = []
        self.resends: list[Resend] = []
        self.out = False
        """The application answers no callback."""
        self._operators = Random(f"operators {seed}")  # dice of their own, as the clients have
        self.notes: list[tuple[float, str]] = []
        self.recorded: list[tuple[float, Recorded]] = []
        self.gone: dict[str, Channel] = {}
        self.impaired: list[Span] = []
        self.faults: dict[str, int] = {}
        self.revived: dict[str, float] = {}
        """When the switch brought a channel back, without the limits it had for it."""
        self.lossy = False
        """Events get lost, so that plivotx may learn of something only when it looks again."""
        self.restarted = False
        self.step_of_wall = 0.0
        self.latency = self.dice.choice((0.0005, 0.003, 0.02))
        self.network.latency = self.dice.choice((0.0002, 0.001, 0.01))
        self.network.chunked = self.dice.random() < 0.5
        self._trap: tuple[str, int] | None = None
        self._dying = False
        forget = self.switch.forget

        def keep(channel: Channel) -> None:
            self.gone[channel.uuid] = channel
            forget(channel)

        self.switch.forget = keep
        take = self.application.take

        def taken(received: Received) -> Answer:
            self._sprung("before a request reached the application")
            answer = take(received)
            if self.out and received.path in ("ring", "hangup"):
                answer = Answer(status=500)
            self._sprung("after a request reached the application")
            return answer

        self.application.take = taken

    def note(self, what: str) -> None:
        self.notes.append((self.clock.seconds(), what))

    def wall(self) -> float:
        return WALL + self.clock.seconds() + self.step_of_wall

    # -- dying between two steps -------------------------------------------------------------------

    def endpoint(self):
        world = self

        class Tapped:
            """An endpoint that notices each write, so that the process can die just before or after it."""

            def connect(self, factory):
                def tap(protocol):
                    write = protocol.transport.write

                    def tapped(data: bytes) -> None:
                        world._sprung("before a write to the switch")
                        write(data)
                        world._sprung("after a write to the switch")

                    protocol.transport.write = tapped
                    return protocol

                return world.network.endpoint().connect(factory).addCallback(tap)

        return Tapped()

    def open_log(self, life: Mortal) -> MemoryLog:
        def committed(recorded: list[Recorded]) -> None:
            self.recorded += [(self.clock.seconds(), each) for each in recorded]
            for each in recorded:
                if isinstance(each.event, CallbackGivenUp):
                    self._plan_resend(each.stream, each.event.key)
            self._sprung("after a commit, before anybody heard of it")

        def schedule(commit: Callable[[], None]) -> None:
            life.callLater(self.latency * self.dice.uniform(0.5, 2), commit)

        return MemoryLog(self.disk, schedule=schedule, wall=self.wall, on_commit=committed)

    def _sprung(self, where: str) -> None:
        """A trap was set for the n-th passage of such a place: the process dies right here."""
        if self._trap is None or self._trap[0] != where or self._dying or self.process is None:
            return
        count = self._trap[1] - 1
        self._trap = (where, count) if count > 0 else None
        if count <= 0:
            self.die(where)

    def die(self, where: str = "between two moments", rest: float | None = None) -> None:
        """From this instant the process has no effect any more; it is buried in the next."""
        if self.process is None or self._dying:
            return
        self._dying = True
        self.count("kill")
        self.note(f"plivotx dies {where}")
        self.process.clock.dead = True
        self.process.log.abandon()
        for link in self.network.links:
            link.stall("client")
            link.stall("switch")
        if rest is None:
            rest = self.dice.choice((0.0, 0.01, 0.5, 3.0, 10.0, 40.0))
        self.clock.callLater(0, self._bury, rest)

    def _bury(self, rest: float) -> None:
        written = self.dice.random() < 0.5
        for link in list(self.network.links):
            flying = b"".join(each.data for each in link._flying["switch"] if each.data)
            if b"bgapi originate" in flying and self.dice.random() < 0.5:
                self.clock.callLater(self.dice.uniform(0.5, 10), self._arrive_late, flying)
            elif written:
                link.resume("switch")  # what the dead process wrote was on its way already
            link.stall("client")
        self.kill()
        self._dying = False
        self.clock.callLater(rest, self.rise)

    def _arrive_late(self, data: bytes) -> None:
        """What a dead process wrote is read by the switch long after it died."""
        if self.network.refusing:
            return
        self.count("bytes of the dead")
        self.note("the switch reads what a dead process had written")
        session = self.switch.protocol()
        session.makeConnection(StringTransport())
        session.dataReceived(f"auth {self.config.fs_inbound_password}\n\n".encode() + data)

    def rise(self) -> None:
        if self.process is None:
            self.note("plivotx starts")
            self.start()

    # -- calls -------------------------------------------------------------------------------------

    def plan_calls(self) -> None:
        # dice of their own: the seeds' other stories stay as they were
        clients = Random(f"clients {self.seed}")
        for number in range(self.dice.randint(1, 6)):
            params = {
                "From": "1000",
                "To": self.dice.choice(NUMBERS),
                "Gateways": self.dice.choice(GATEWAYS),
                "AnswerUrl": f"{APPLICATION}/{self.plan_document(number)}/",
                "HangupUrl": f"{APPLICATION}/hangup/",
            }
            if self.dice.random() < 0.5:
                self._plan_list(params)
            if params["Gateways"] == "error/":
                params["To"] = self.dice.choice(("USER_BUSY", "NO_ROUTE_TRANSIT_NET"))
            if self.dice.random() < 0.8:
                params["RingUrl"] = f"{APPLICATION}/ring/"
            if self.dice.random() < 0.6:
                params["TimeLimit"] = str(self.dice.choice((1, 3, 8, 30, 120, 1200)))
            if self.dice.random() < 0.3:
                params["HangupOnRing"] = str(self.dice.choice((0, 1, 5, 15)))
            asked = Asked(at=self.dice.uniform(0.5, 60), params=params)
            self.asked.append(asked)
            self.clock.callLater(asked.at, self._ask, asked)
            if clients.random() < 0.25:
                later = clients.choice((0.0, 0.002, 0.02, 1.0, 5.0, 30.0)) + clients.uniform(0, 0.01)
                self.clock.callLater(asked.at + later, self._hang_up, asked)

    def _hang_up(self, asked: Asked) -> None:
        """A client hangs up, by the RequestUUID; or by the CallUUID, once it was told that."""
        if self.process is None or self._dying or not asked.accepted:
            return
        rung = [each for each in self.application.told("ring") if each["RequestUUID"] == asked.accepted]
        form = {"CallUUID": rung[0]["CallUUID"]} if rung else {"RequestUUID": asked.accepted}
        self.note(f"a client hangs up {form}")
        self.process.post("/v0.1/HangupCall/", form).addErrback(lambda _: None)

    def _plan_resend(self, stream: str, key: str) -> None:
        """Somebody sees that a callback was given up, and has it sent again; now and then two do so at once."""
        if sum(each.stream == stream for each in self.resends) >= MOST_RESENDS:
            return
        dice = self._operators
        later = dice.choice((0.0, 0.002, 0.02, 1.0, 10.0, 60.0)) + dice.uniform(0, 0.01)
        for _ in range(dice.choice((1, 1, 1, 2))):
            resend = Resend(stream, dice.choice((key, "")))
            self.resends.append(resend)
            self.clock.callLater(later, self._resend, resend)

    def _resend(self, resend: Resend) -> None:
        if resend.answers:
            return
        self.clock.callLater(ASK_AGAIN, self._resend, resend)
        if self.process is None or self._dying:
            return
        self.note(f"a client has {resend.key or 'all'} of {resend.stream[:8]} sent again")
        resend.posts += 1

        def answered(result: tuple[int, dict[str, Any]]) -> None:
            if result[0] != 503:
                resend.answers.append(result[1])

        form = {"Key": resend.key} if resend.key else {}
        self.process.post(f"/v0.1/Calls/{resend.stream}/Resend/", form).addCallbacks(answered, lambda _: None)

    def _plan_list(self, params: dict[str, str]) -> None:
        """Several gateways, with everything that may be said of them."""
        dice = self.dice
        gateways = [dice.choice(IN_LISTS) for _ in range(dice.randint(1, 4))]
        params["Gateways"] = ",".join(gateways)
        if dice.random() < 0.5:
            params["GatewayRetries"] = ",".join(dice.choice(("", "1", "2", "3")) for _ in gateways[1:])
        if dice.random() < 0.7:
            params["GatewayTimeouts"] = ",".join(dice.choice(("", "2", "5", "20")) for _ in gateways)
        if dice.random() < 0.3:
            params["GatewayCodecs"] = "'PCMA,PCMU',PCMU"
        if dice.random() < 0.3:
            params["ExtraDialString"] = "sip_h_X-Test='a, b',hangup_after_bridge=true"
        if dice.random() < 0.15:  # early media that would go on for ever so long
            params.update(To="225", Gateways="sofia/gateway/self/", GatewayTimeouts=dice.choice(("2", "5")))
            params.update(SendDigits="1", SendOnPreanswer="true", GatewayRetries="")
        elif dice.random() < 0.4:
            params["SendDigits"] = dice.choice(("1", "12w3@100", "*W#@300"))
            params["SendOnPreanswer"] = dice.choice(("", "true", "true"))

    def _ask(self, asked: Asked) -> None:
        if self.process is None or self._dying:
            self.note("a POST finds nobody")
            return

        def answered(result: tuple[int, dict[str, Any]]) -> None:
            asked.answer = result[1]

        self.process.post("/v0.1/Call/", asked.params).addCallbacks(answered, lambda _: None)

    def plan_document(self, number: int) -> str:
        path = f"answer{number}"
        wait = self.dice.choice((1, 2, 10, 100, 3000))
        documents = [
            f"<Response><Wait length='{wait}'/></Response>",
            f"<Response><Wait/><Wait length='{wait}'/><Wait length='2'/></Response>",
            "<Response><Wait/><Hangup reason='busy'/></Response>",
            "<Response/>",
            "<Response><Hangup/>",
            "<Response><Unheard/></Response>",
        ]
        body = self.dice.choice(documents[:3] * 3 + documents)
        if self.dice.random() < 0.6:
            body = self._script(path, self.dice.randint(1, 3))
        self.application.answers[path] = self._moody(Answer(body=body.encode()))
        return path

    def _script(self, path: str, deep: int) -> str:
        """A document of all kinds of verbs; what its actions lead to is *deep* documents deep at most."""
        following = f"{APPLICATION}/{path}-{deep}/"
        action = f"action='{following}'" if deep and self.dice.random() < 0.7 else ""
        if deep:
            answer = Answer(body=self._script(path, deep - 1).encode())
            self.application.answers[f"{path}-{deep}"] = self._moody(answer)
        tone = "tone_stream://%(300,0,440)"
        loop = self.dice.choice((0, 1, 2, 12, 25))
        verbs = [
            f"<Play loop='{loop}'>{tone}</Play>",
            f"<Play>{tone}</Play>",
            "<Play loop='3'>no/such.wav</Play>",
            "<Speak loop='2'>hello there</Speak>",
            "<Speak type='NUMBER' method='PRONOUNCED'>42</Speak>",
            f"<GetDigits {action} timeout='2' numDigits='2' retries='2'><Speak>press</Speak></GetDigits>",
            f"<GetDigits {action} timeout='4' playBeep='true'/>",
            f"<Record {action} maxLength='4' redirect='{self.dice.choice(('true', 'false'))}'/>",
            f"<Record {action} maxLength='30' playBeep='false' fileName='mine'/>",
            f"<Record {action} bothLegs='true' maxLength='9'/>",
            f"<Notify>{APPLICATION}/notice/</Notify>",
            f"<Redirect>{following}</Redirect>" if deep else "<Wait/>",
            "<Hangup schedule='9' reason='busy'/>",
            "<PreAnswer><Wait/><Play>tone_stream://%(200,0,440)</Play></PreAnswer>",
            "<Breaks/>",
            "<Breaks app='record' arg='/var/x.wav' stop='false'/>",
            "<Wait length='2'/>",
        ]
        chosen = [self.dice.choice(verbs) for _ in range(self.dice.randint(1, 5))]
        return f"<Response>{''.join(chosen)}</Response>"

    def _moody(self, good: Answer) -> Callable[[Received], Answer]:
        """Now and then, and only while faults last, the application is slow, broken or confused."""

        def answer(received: Received) -> Answer:
            del received
            if self.calm or self.healed or self.dice.random() < 0.7:
                return msgspec.structs.replace(good, delay=self.dice.uniform(0, 0.3))
            self.count("application")
            return self.dice.choice(
                (
                    Answer(status=500),
                    Answer(broken=True, delay=1),
                    Answer(never=True),
                    msgspec.structs.replace(good, delay=6),
                    Answer(body=b"\xff\xfe garbage"),
                )
            )

        return answer

    # -- faults ------------------------------------------------------------------------------------

    healed = False

    def plan_revival(self) -> None:
        """A long call, and a restart of the switch in the middle of it."""
        self.application.answers["long"] = Answer(body=b"<Response><Wait length='3000'/></Response>")
        long = {
            "From": "1000",
            "To": "100",
            "Gateways": "sofia/gateway/self/",
            "AnswerUrl": f"{APPLICATION}/long/",
            "HangupUrl": f"{APPLICATION}/hangup/",
            "TimeLimit": "120",
        }
        asked = Asked(at=1.0, params=long)
        self.asked.append(asked)
        self.clock.callLater(asked.at, self._ask, asked)
        self.clock.callLater(self.dice.uniform(20, 60), self._restart_switch)

    def count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def plan_faults(self) -> None:
        self.application.answers["ring"] = self._moody(Answer())
        self.application.answers["hangup"] = self._moody(Answer())
        self.application.answers["notice"] = self._moody(Answer())
        self.switch.faults.swap = self.dice.choice((0.0, 0.5, 1.0))
        self.switch.faults.job_delay = self.dice.choice((0.0, 0.0, 0.3))
        if self.calm:
            return
        disturbing = self.switch.faults
        if self.dice.random() < 0.3:
            self.lossy = True
            name = self.dice.choice(
                (
                    "BACKGROUND_JOB",
                    "CHANNEL_HANGUP_COMPLETE",
                    "CHANNEL_ANSWER",
                    "CHANNEL_EXECUTE_COMPLETE",
                    "*",
                )
            )
            disturbing.lose[name] = self.dice.choice((0.2, 1.0 if name != "*" else 0.3))
            self.note(f"events of the kind {name} get lost")
            self.count("events lost")
        if self.dice.random() < 0.3:
            disturbing.twice["*"] = 0.5
            self.count("events twice")
        disturbing.show_lag = 0.3
        if self.dice.random() < 0.1:
            self.plan_revival()
        kinds = [
            self.die,
            self._set_trap,
            self._set_trap,
            self._drop,
            self._stall,
            self._unreachable,
            self._restart_switch,
            self._log_refuses,
            self._step_wall,
        ]
        for _ in range(self.dice.randint(1, 6)):
            self.clock.callLater(self.dice.uniform(0, 100), self.dice.choice(kinds))
        if self._operators.random() < 0.3:
            self.clock.callLater(self._operators.uniform(1, 70), self._out, self._operators.uniform(20, 90))
        self.clock.callLater(self.dice.uniform(100, 200), self._heal)

    def _heal(self) -> None:
        self.note("from here on no more faults")
        self.healed = True
        self._trap = None
        self.network.refusing = False
        self.switch.faults.lose.clear()
        if self.process:
            self.process.log.refusing = ""
        # A connection that stalls goes on doing so: plivotx must notice it by itself.

    def _set_trap(self) -> None:
        places = (
            "after a commit, before anybody heard of it",
            "before a write to the switch",
            "after a write to the switch",
            "before a request reached the application",
            "after a request reached the application",
        )
        self._trap = (self.dice.choice(places), self.dice.randint(1, 6))

    def _drop(self) -> None:
        self.count("connection dropped")
        self.note("the connections break")
        for link in list(self.network.links):
            if self.dice.random() < 0.7:
                link.drop()

    def _stall(self) -> None:
        self.count("connection stalled")
        self.note("a connection stalls")
        for link in list(self.network.links):
            if self.dice.random() < 0.6:
                link.stall("client")
                if self.dice.random() < 0.3:
                    link.stall("switch")
                if self.dice.random() < 0.7:
                    self.clock.callLater(self.dice.uniform(0.1, 30), self._unstall, link)

    def _unstall(self, link: Any) -> None:
        if not self._dying:
            link.resume("client")
            link.resume("switch")

    def _unreachable(self) -> None:
        self.count("switch unreachable")
        self.note("the switch cannot be reached")
        self.network.refusing = True
        for link in list(self.network.links):
            link.drop()

        def back() -> None:
            self.network.refusing = False

        self.clock.callLater(self.dice.uniform(0.5, 60), back)

    def _restart_switch(self) -> None:
        self.count("switch restarted")
        up = [uuid for uuid, channel in self.switch.channels.items() if channel.answered_at and channel.up]
        revive = [each for each in up if self.dice.random() < 0.6]
        self.revived.update(dict.fromkeys(revive, self.clock.seconds()))
        for uuid in revive:  # shortly before its limit, when the switch's own must have been set anew
            ahead = self._limit(self.switch.channels[uuid]) - 3 - self.clock.seconds()
            if 20 < ahead < 300:
                self.clock.callLater(ahead, self._die_with, uuid)
        self.note(f"FreeSWITCH restarts and revives {[each[:8] for each in revive]}")
        for uuid, channel in self.switch.channels.items():
            if uuid not in revive:
                self.gone[uuid] = channel
        self.restarted = True
        self.switch.restart(revive=revive)

    def _die_with(self, uuid: str) -> None:
        if uuid in self.switch.channels:  # else the story may be over, and would end without a server
            self.die("with a revived channel", 60.0)

    def _limit(self, channel: Channel) -> float:
        """When an answered channel must end at the latest; 0 if its call is not on record."""
        recorded = self.disk.streams.get(channel.variables.get("plivo_request_uuid", ""))
        if not recorded:
            return 0.0
        longest = recorded[0].event.time_limit or CONFIG.max_call_duration
        return channel.answered_at / 1e6 - WALL + min(longest, CONFIG.max_call_duration)

    def _log_refuses(self) -> None:
        if self.process is None:
            return
        self.count("log refuses")
        self.note("the log refuses to write")
        log = self.process.log
        log.refusing = "disk full"

        def again() -> None:
            log.refusing = ""

        self.clock.callLater(self.dice.uniform(0.1, 30), again)

    def _out(self, seconds: float) -> None:
        self.count("application out")
        self.note(f"the application takes no callback for {seconds:.0f} s")
        self.out = True

        def back() -> None:
            self.out = False

        self.clock.callLater(seconds, back)

    def _step_wall(self) -> None:
        self.count("wall clock stepped")
        self.step_of_wall += self.dice.choice((-86400.0, -3600.0, -5.0, 5.0, 3600.0, 86400.0))
        self.note(f"the wall clock is off by {self.step_of_wall:g} s")

    # -- playing -----------------------------------------------------------------------------------

    def advance(self, end: float) -> None:
        super().advance(end)
        why = self._impairment()
        last = self.impaired[-1] if self.impaired else None
        now = self.clock.seconds()
        if last and last.end == float("inf"):
            if last.why == why:
                return
            last.end = now
        if why:
            self.impaired.append(Span(now, why))

    def _impairment(self) -> str:
        if self.process is None or self._dying:
            return "plivotx is down"
        if not self.process.server.switches["default"].up:
            return "no connection to the switch"
        if self.process.log.refusing:
            return "the log refuses"
        if any(link._held for link in self.network.links):
            return "a connection stalls"
        return ""

    def impairment(self, begin: float, end: float) -> float:
        """Seconds between *begin* and *end* in which plivotx could not do its work."""
        return sum(max(0.0, min(end, each.end) - max(begin, each.begin)) for each in self.impaired)

    def over(self) -> bool:
        return (
            (self.healed or self.calm)
            and self.clock.seconds() > 65
            and self.process is not None
            and all(
                each.up for each in self.process.server.switches.values()
            )  # what was left behind is swept
            and not self.disk.open
            and all(each.answers for each in self.resends)
            and not any(self.idle().values())
            and not self.mine()
        )

    def idle(self) -> dict[str, int]:
        assert self.process is not None
        server = self.process.server
        return server.idle()

    def mine(self) -> list[str]:
        return [each for each in self.switch.channels if each[14] == "5"]

    def play(self) -> None:
        """Play it to the end, or to where it should have ended long ago."""
        self.plan_calls()
        self.plan_faults()
        self.start()
        while not self.over() and self.clock.seconds() < LONGEST:
            self.advance(LONGEST)
        # What is deleted after the last call, or swept after a connection that was made just now.
        end = self.clock.seconds() + 5
        while self.clock.seconds() < end or (self.clock.seconds() < end + 60 and not self.over()):
            self.advance(end + 60)
