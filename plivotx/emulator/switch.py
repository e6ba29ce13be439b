"""The emulated FreeSWITCH itself: its clock, its channels, its events, and what tests may see and disturb.

Everything timed runs on one IReactorTime; with a `twisted.internet.task.Clock` and a seed two runs write the same bytes.
"""

from __future__ import annotations

import math
import random
import uuid as uuids
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory as TwistedFactory
from twisted.internet.protocol import Protocol

from plivotx.emulator import api, applications, digits, farends, sounds
from plivotx.emulator.causes import cause as read_cause
from plivotx.emulator.channel import FRAME, Channel
from plivotx.emulator.dialstring import DialStringError, Leg, integer, parse, separate
from plivotx.emulator.events import ChannelEvent, Event, Headers
from plivotx.emulator.originate import Originating
from plivotx.emulator.recording import Recording
from plivotx.emulator.socket import Session
from plivotx.emulator.variables import Variables

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

VERSION = "1.10.12-emulator~64b"
HEARTBEAT = 20.0
"""Seconds between two HEARTBEAT events."""

_TICK = 0.5  # how often the scheduler looks at its tasks
_THEIR_PAUSE = 0.28  # between two digits of a far end (call_dtmf_from_far_end)
_GAP = 0.25  # what FreeSWITCH reckons for the pause behind a digit
_DEFAULT = 0.25  # and for `w`

# where FreeSWITCH 1.10.12 says its events come from (orig_answer_park_all and others)
_CALLING = {
    "API": ("switch_loadable_module.c", "switch_api_execute", "2954"),
    "ADD_SCHEDULE": ("switch_scheduler.c", "switch_scheduler_add_task", "290"),
    "BACKGROUND_JOB": ("mod_event_socket.c", "api_exec", "1572"),
    "CALL_UPDATE": ("switch_channel.c", "switch_channel_flip_cid", "3277"),
    "CHANNEL_ANSWER": ("switch_channel.c", "switch_channel_perform_mark_answered", "3846"),
    "CHANNEL_CALLSTATE": ("switch_channel.c", "switch_channel_perform_set_callstate", "301"),
    "CHANNEL_CREATE": ("switch_core_state_machine.c", "switch_core_session_run", "626"),
    "CHANNEL_DATA": ("mod_commands.c", "uuid_dump_function", "6468"),
    "CHANNEL_DESTROY": ("switch_core_session.c", "switch_core_session_perform_destroy", "1584"),
    "CHANNEL_EXECUTE": ("switch_core_session.c", "switch_core_session_exec", "2944"),
    "CHANNEL_EXECUTE_COMPLETE": ("switch_core_session.c", "switch_core_session_exec", "2967"),
    "CHANNEL_HANGUP": ("switch_channel.c", "switch_channel_perform_hangup", "3445"),
    "CHANNEL_HANGUP_COMPLETE": ("switch_core_state_machine.c", "switch_core_session_reporting_state", "943"),
    "CHANNEL_ORIGINATE": ("switch_core_state_machine.c", "switch_core_session_run", "632"),
    "CHANNEL_OUTGOING": ("switch_core_session.c", "switch_core_session_outgoing_channel", "768"),
    "CHANNEL_PARK": ("switch_ivr.c", "switch_ivr_park", "1002"),
    "CHANNEL_PROGRESS": ("switch_channel.c", "switch_channel_perform_mark_ring_ready_value", "3505"),
    "CHANNEL_PROGRESS_MEDIA": ("switch_channel.c", "switch_channel_perform_mark_pre_answered", "3553"),
    "CHANNEL_STATE": ("switch_channel.c", "switch_channel_perform_set_running_state", "2408"),
    "CHANNEL_UNPARK": ("switch_ivr.c", "switch_ivr_park", "1213"),
    "CHANNEL_UUID": ("switch_core_session.c", "switch_core_session_set_uuid", "1670"),
    "DEL_SCHEDULE": ("switch_scheduler.c", "task_thread_loop", "182"),
    "DTMF": ("switch_channel.c", "switch_channel_dequeue_dtmf", "750"),
    "HEARTBEAT": ("switch_core.c", "send_heartbeat", "95"),
    "PLAYBACK_START": ("switch_ivr_play_say.c", "switch_ivr_play_file", "1646"),
    "PLAYBACK_STOP": ("switch_ivr_play_say.c", "switch_ivr_play_file", "2020"),
    "RECORD_START": ("switch_ivr_play_say.c", "switch_ivr_record_file_event", "767"),
    "RECORD_STOP": ("switch_ivr_play_say.c", "switch_ivr_record_file_event", "1030"),
    "SESSION_HEARTBEAT": ("switch_core_session.c", "send_heartbeat", "2820"),
}
_WITHOUT_VARIABLES = frozenset(("CHANNEL_OUTGOING", "CHANNEL_STATE", "CHANNEL_CALLSTATE", "DTMF", "CODEC"))


@dataclass(frozen=True)
class Dialled:
    """A leg that was dialled: for assertions."""

    uuid: str
    endpoint: str
    """`sofia`, `loopback` ..."""
    prefix: str
    """What stands before the number in the dial string, `sofia/gateway/G/`."""
    destination: str
    """The number."""
    variables: dict[str, str]
    """What was set on the channel."""
    at: float
    """Seconds of the clock."""


@dataclass(frozen=True)
class Ended:
    """A channel that ended."""

    uuid: str
    cause: str
    at: float
    """Seconds of the clock."""


@dataclass
class Faults:
    """What goes wrong, by probability; all dice are one Random of the switch's seed, so runs repeat."""

    rng: random.Random
    lose: dict[str, float] = field(default_factory=dict)
    """Probability by event name (`*` is any other) that nobody gets an event."""
    twice: dict[str, float] = field(default_factory=dict)
    """Probability by event name (`*` is any other) that everybody gets it twice."""
    swap: float = 0.0
    """Probability that BACKGROUND_JOB and HANGUP_COMPLETE of a failing leg come in the other order; both are normal."""
    job_delay: float = 0.0
    """BACKGROUND_JOB comes up to so many seconds late."""
    jitter: float = 0.0
    """Each reaction of a far end comes up to so many seconds late."""
    show_lag: float = 0.0
    """`show channels` does not know channels younger than so many seconds (measured: 0.3)."""

    def _hits(self, table: dict[str, float], name: str) -> bool:
        probability = table.get(name, table.get("*", 0.0)) if table else 0.0
        return probability > 0 and self.rng.random() < probability

    def copies(self, name: str) -> int:
        """How often an event of this name is delivered: 0, 1 or 2."""
        if self._hits(self.lose, name):
            return 0
        return 2 if self._hits(self.twice, name) else 1

    def swaps(self) -> bool:
        """Whether this failing leg's job comes on the other side of its end."""
        return self.swap > 0 and self.rng.random() < self.swap

    def after_job(self, delay: float) -> float:
        """The delay that lets the answer of a job overtake the end of its leg; 0 if they swap."""
        return 0.0 if self.swaps() else delay

    def late(self) -> float:
        """Seconds by which a BACKGROUND_JOB is late."""
        return self.rng.uniform(0, self.job_delay) if self.job_delay > 0 else 0.0

    def jittered(self, delay: float) -> float:
        """A far end's delay with its jitter."""
        return delay + self.rng.uniform(0, self.jitter) if self.jitter > 0 else delay


@dataclass
class Task:
    """A scheduled hangup or command."""

    number: int
    description: str
    group: str
    runtime: int
    call: IDelayedCall


class Switch:
    """One emulated FreeSWITCH; `protocol()` gives its end of a new event-socket connection."""

    def __init__(
        self,
        clock: IReactorTime,
        *,
        seed: int = 0,
        wall: float = 1_800_000_000.0,
        password: str = "ClueCon",
        name: str = "emulator",
    ) -> None:
        self.clock = clock
        self.password = password
        self.name = name
        self.rng = random.Random(seed)  # noqa: S311 - dice of a simulation
        self.faults = Faults(random.Random(self.rng.random()))  # noqa: S311 - the same
        self.channels: dict[str, Channel] = {}
        """Those that were not destroyed yet, by uuid; after its hangup a channel is no longer `up`."""
        self.dialled: list[Dialled] = []
        self.ended: list[Ended] = []
        self.heard: dict[str, str] = {}
        """Digits that far ends heard in their audio, by our leg's uuid."""
        self.digits: list[digits.Heard] = []
        """The same one by one, with their times; and those that came as SIP INFO."""
        self.spoken: list[tuple[str, str]] = []
        """Every text that was spoken, as the voice got it: uuid, text."""
        self.executed: list[tuple[str, str, str, float]] = []
        """Every application that ran: uuid, name, argument, seconds of the clock."""
        self.numbers: dict[str, farends.Script] = {}
        """Far ends of your own, by the number dialled."""
        self.gateways: dict[str, farends.Behaviour] = {
            "dead": (
                farends.Step(0, "unreachable", "NORMAL_TEMPORARY_FAILURE"),
            ),  # the port is closed: ICMP says so
            "busy": (farends.Step(0, "refuse", "USER_BUSY"),),
            "silent": farends.SILENT,
            "trying": farends.TRYING,
        }
        """Gateways by name: a script for every number, or a function that gives one for the number, asked at each attempt."""
        self.unknown_gateways = {"nosuch"}
        self.sounds: dict[str, float] = {}
        """Sound files and URLs there are, with their seconds."""
        self.voices = {"flite": {"awb", "kal", "rms", "slt"}}
        """Speech engines, with their voices."""
        self.languages = {"de", "en", "es", "fr", "it", "nl", "pt", "ru"}
        """Languages whose sound files `say` finds."""
        self.unwritable: set[str] = set()
        """Beginnings of file names that cannot be recorded to."""
        self.recordings: list[Recording] = []
        """All recordings, in the order in which they began."""
        self.profile = "lab"
        self.user_agent = f"FreeSWITCH-mod_sofia/{VERSION}"
        self.globals = Variables()
        self.hash: dict[str, str] = {}
        self.api_expansion = False
        self.sessions: list[Session] = []
        self.tasks: dict[int, Task] = {}
        self._wall = wall - clock.seconds()
        self._phase = self.rng.random() * _TICK
        self._wanted: set[str] = set()
        self._calls: set[IDelayedCall] = set()
        self._purge_at = 1024
        self._beating: IDelayedCall | None = None
        self._boot()

    def _boot(self) -> None:
        self.core_uuid = self.new_uuid()
        self.started = self.clock.seconds()
        self.sequence = self.rng.randrange(400, 600)
        self.session_count = 0
        self._task_count = 0
        self.hash.clear()
        self.globals = Variables(
            {
                "hostname": self.name,
                "local_ip_v4": "127.0.0.1",
                "core_uuid": self.core_uuid,
                "sound_prefix": "/usr/local/sounds/en/us/callie",
            }
        )

    # --- time

    def wall(self) -> float:
        """FreeSWITCH's own clock, seconds of the epoch; it never steps."""
        return self._wall + self.clock.seconds()

    def micros(self) -> int:
        """The same in microseconds."""
        return round(self.wall() * 1_000_000)

    def local_time(self, micros: int) -> str:
        """A time stamp as FreeSWITCH writes it; local time is UTC here."""
        return _local(micros // 1_000_000)

    def later(self, delay: float, act: Callable[..., Any], *args: Any) -> IDelayedCall:
        """Do something later, unless the switch restarts before."""
        call = self.clock.callLater(delay, act, *args)
        self._calls.add(call)
        if len(self._calls) > self._purge_at:
            self._calls = {call for call in self._calls if call.active()}
            self._purge_at = max(1024, 2 * len(self._calls))
        return call

    def new_uuid(self) -> str:
        """A UUID of FreeSWITCH's own making: version 4."""
        return str(uuids.UUID(int=self.rng.getrandbits(128), version=4))

    def next_session(self) -> int:
        """The number of the next session."""
        self.session_count += 1
        return self.session_count

    # --- connections

    def protocol(self) -> Protocol:
        """The switch's end of a new event-socket connection."""
        return Session(self)

    def connected(self, session: Session) -> None:
        """A connection is up."""
        self.sessions.append(session)

    def disconnected(self, session: Session) -> None:
        """A connection is gone; its background jobs go on (in_bgapi_owner_gone)."""
        if session in self.sessions:
            self.sessions.remove(session)
            self.subscribed()

    def subscribed(self) -> None:
        """Some connection changed what it listens to."""
        self._wanted = set().union(*(session.names for session in self.sessions))
        if "HEARTBEAT" in self._wanted and self._beating is None:
            self._beat_later()

    def _beat_later(self) -> None:
        elapsed = self.clock.seconds() - self.started
        due = (math.floor(elapsed / HEARTBEAT + 1e-9) + 1) * HEARTBEAT
        self._beating = self.later(due - elapsed, self._beat)

    def _beat(self) -> None:
        self._beating = None
        if "HEARTBEAT" not in self._wanted:
            return
        up = self.uptime()
        self.fire(
            "HEARTBEAT",
            [
                ("Event-Info", "System Ready"),
                ("Up-Time", up),
                ("FreeSWITCH-Version", VERSION),
                ("Uptime-msec", str(round((self.clock.seconds() - self.started) * 1000))),
                ("Session-Count", str(len(self.channels))),
                ("Max-Sessions", "1000"),
                ("Session-Per-Sec", "30"),
                ("Session-Per-Sec-Last", "0"),
                ("Session-Per-Sec-Max", "0"),
                ("Session-Per-Sec-FiveMin", "0"),
                ("Session-Since-Startup", str(self.session_count)),
                ("Session-Peak-Max", "0"),
                ("Session-Peak-FiveMin", "0"),
                ("Idle-CPU", "99.000000"),
            ],
        )
        self._beat_later()

    def uptime(self) -> str:
        """How long the switch runs, in FreeSWITCH's words."""
        micros = round((self.clock.seconds() - self.started) * 1_000_000)
        seconds, micros = divmod(micros, 1_000_000)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        years, days = divmod(days, 365)
        parts = (
            f"{n} {unit}{'' if n == 1 else 's'}"
            for n, unit in (
                (years, "year"),
                (days, "day"),
                (hours, "hour"),
                (minutes, "minute"),
                (seconds, "second"),
                (micros // 1000, "millisecond"),
                (micros % 1000, "microsecond"),
            )
        )
        return ", ".join(parts)

    # --- events

    def core_headers(self, name: str) -> Headers:
        """The headers that every event begins with; counts the event."""
        self.sequence += 1
        micros = self.micros()
        file, function, line = _CALLING.get(name, ("switch_core.c", "emulator", "1"))
        local, gmt = _dates(micros // 1_000_000)
        return [
            ("Event-Name", name),
            ("Core-UUID", self.core_uuid),
            ("FreeSWITCH-Hostname", self.name),
            ("FreeSWITCH-Switchname", self.name),
            ("FreeSWITCH-IPv4", "127.0.0.1"),
            ("FreeSWITCH-IPv6", "::1"),
            ("Event-Date-Local", local),
            ("Event-Date-GMT", gmt),
            ("Event-Date-Timestamp", str(micros)),
            ("Event-Calling-File", file),
            ("Event-Calling-Function", function),
            ("Event-Calling-Line-Number", line),
            ("Event-Sequence", str(self.sequence)),
        ]

    def fire(self, name: str, headers: Headers, body: bytes | None = None) -> None:
        """Send an event that belongs to no channel."""
        if name not in self._wanted:
            self.sequence += 1
            return
        self.deliver(Event(name, self.core_headers(name) + headers, body))

    def fire_channel(
        self,
        name: str,
        channel: Channel,
        extra: Iterable[tuple[str, str]],
        before: Headers,
        *,
        profile: bool = True,
    ) -> None:
        """Send an event of a channel, as it stands at this moment; nothing is built that nobody wants."""
        if name not in self._wanted:
            self.sequence += 1
            return
        headers = self.core_headers(name)
        headers += before
        headers += channel.state_headers()
        if name == "CHANNEL_HANGUP_COMPLETE":
            cause = ("Hangup-Cause", channel.cause)
            headers.remove(cause)
            headers.insert(13, cause)
        variables = name not in _WITHOUT_VARIABLES
        self.deliver(ChannelEvent(name, channel, headers, list(extra), profile=profile, variables=variables))

    def deliver(self, event: Event) -> None:
        """Give an event to all connections that listen to it."""
        for _ in range(self.faults.copies(event.name)):
            for session in list(self.sessions):
                session.deliver(event)

    # --- channels

    def locate(self, uuid: str) -> Channel | None:
        """Find a channel that was not hung up."""
        channel = self.channels.get(uuid)
        return channel if channel is not None and channel.up else None

    def add(self, channel: Channel, leg: Leg) -> None:
        """A leg is dialled."""
        self.channels[channel.uuid] = channel
        address = f"{leg.endpoint}/{leg.address or ''}"
        prefix = address[: address.rfind(channel.destination)] if channel.destination else address
        self.dialled.append(
            Dialled(
                channel.uuid,
                leg.endpoint,
                prefix,
                channel.destination,
                dict(leg.variables),
                self.clock.seconds(),
            )
        )

    def forget(self, channel: Channel) -> None:
        """A channel is destroyed."""
        if self.channels.get(channel.uuid) is channel:
            del self.channels[channel.uuid]

    def ended_channel(self, channel: Channel) -> None:
        """A channel was hung up."""
        self.ended.append(Ended(channel.uuid, channel.cause, self.clock.seconds()))

    def ran(self, channel: Channel, app: str, argument: str) -> None:
        """An application starts."""
        self.executed.append((channel.uuid, app, argument, self.clock.seconds()))

    def application(self, name: str) -> applications.Application | None:
        """Find an application."""
        return applications.APPLICATIONS.get(name.lower())

    def length_of(self, path: str) -> float | None:
        """How many seconds a sound lasts; None if there is none."""
        return sounds.length(path, self.sounds)

    def script_of(self, number: str) -> farends.Script:
        """What the party with this number does."""
        return self.numbers[number] if number in self.numbers else farends.script(number)

    def dialplan(self, target: str, dialplan: str, context: str) -> list[tuple[str, str | None]] | None:
        """What a dialplan says: the applications of an inline list or of the lab's far-end context; None is no route."""
        if dialplan.lower() == "inline":
            delimiter = ","
            if target.startswith("m:") and target[3:4] == ":":
                delimiter, target = target[2], target[4:]
            todo: list[tuple[str, str | None]] = []
            for piece in separate(target, delimiter, 128):
                app, colon, argument = piece.lstrip(" ").partition(":")
                todo.append((app, argument if colon else None))
            return todo
        if context == "farend" and target.startswith("1") and farends.script(target)[0].act == "ring":
            seconds = farends.script(target)[1].after
            return [
                ("ring_ready", None),
                ("sleep", str(round(seconds * 1000))),
                ("answer", None),
                ("park", None),
            ]
        return None

    def transfer(
        self, channel: Channel, target: str, dialplan: str = "XML", context: str | None = None
    ) -> None:
        """Send a channel to other applications; what runs is stopped at the next frame."""
        context = context or channel.context
        todo = self.dialplan(target, dialplan, context)
        channel.transfer(target, dialplan, context)
        channel.runner.transfer(todo or [], None if todo is not None else "NO_ROUTE_DESTINATION")

    def hang_up(self, uuid: str, cause: str = "NORMAL_CLEARING") -> None:
        """The far end hangs up."""
        channel = self.locate(uuid)
        if channel is None:
            raise KeyError(uuid)
        if channel.answered:
            channel.bye(cause)
        else:
            channel.refuse(cause)

    def press(self, uuid: str, keys: str) -> None:
        """The far end presses keys, `DIGITS[@MS]`."""
        channel = self.locate(uuid)
        if channel is None:
            raise KeyError(uuid)
        self.receive_digits(channel, keys, "RTP")

    # --- digits

    def send_digits(self, channel: Channel, text: str) -> bool:
        """Send digits to the far end, which hears them one by one; False if there is none among them."""
        found = digits.read(text)
        if not found:
            return False
        channel.outgoing.send(found)
        # set for what is sent, in milliseconds (call_dtmf; switch_core_session_send_dtmf_string)
        spans = (_DEFAULT if digit.pause else digit.seconds for digit in found)
        channel.variables["last_dtmf_duration"] = str(round(sum(span + _GAP for span in spans) * 1000))
        return True

    def far_end_hears(self, channel: Channel, digit: digits.Digit, *, info: bool) -> None:
        """A digit has reached the far end, in the audio or as SIP INFO."""
        if not info:
            self.heard[channel.uuid] = self.heard.get(channel.uuid, "") + digit.digit
        at = self.clock.seconds()
        self.digits.append(
            digits.Heard(channel.uuid, digit.digit, digit.sounding, at, channel.answered, info)
        )

    def receive_digits(self, channel: Channel, text: str, source: str) -> bool:
        """Digits reach the channel; each raises its DTMF event when it is taken from the queue (call_dtmf)."""
        found = digits.read(text)
        at = FRAME
        for digit in found:
            if digit.pause:
                continue
            if source == "APP":
                self.later(at, channel.press, digit)
                at += FRAME
            else:
                pressed = digits.Digit(digit.digit, digit.sounding, source)
                self.later(at + digit.sounding, channel.press, pressed)
                at += digit.sounding + _THEIR_PAUSE
        return bool(found)

    # --- the scheduler

    def schedule(self, when: str, description: str, group: str, act: Callable[[], None]) -> Task:
        """Do something when clock second `when` (`+N` counts from now) is over the scheduler's next look, twice a second."""
        now = math.floor(self.wall())
        runtime = now + integer(when[1:]) if when[:1] in {"+", "@"} else integer(when)
        at = max(math.ceil((runtime - self._phase) / _TICK) * _TICK + self._phase, self._next_look())
        self._task_count += 1
        number = self._task_count
        call = self.later(max(at - self.wall(), 0.0), self._run_task, number, act)
        task = self.tasks[number] = Task(number, description, group, runtime, call)
        self._tell_task("ADD_SCHEDULE", task)
        return task

    def _next_look(self) -> float:
        """When the scheduler looks at its tasks again, on the wall clock."""
        return (math.floor((self.wall() - self._phase) / _TICK) + 1) * _TICK + self._phase

    def schedule_hangup(self, channel: Channel, when: str, cause: str) -> None:
        """`sched_hangup`, the application and the command: its group is the channel's uuid."""
        read = read_cause(cause) if cause else "ALLOTTED_TIMEOUT"
        if when == "+0":
            channel.hangup(read)
            return
        self.schedule(
            when, "switch_ivr_schedule_hangup", channel.uuid, lambda: self._hang_up_now(channel.uuid, read)
        )

    def _hang_up_now(self, uuid: str, cause: str) -> None:
        channel = self.locate(uuid)
        if channel is not None:
            channel.hangup(cause)

    def _run_task(self, number: int, act: Callable[[], None]) -> None:
        task = self.tasks.pop(number, None)
        if task is not None:
            act()
            self._tell_task("DEL_SCHEDULE", task)

    def unschedule(self, text: str) -> int:
        """Delete tasks by number or by group; says how many."""
        number = integer(text) if text.isascii() and text.isdigit() else 0
        found = [
            task for task in self.tasks.values() if task.group == text or (number and task.number == number)
        ]
        for task in found:
            del self.tasks[task.number]
            if task.call.active():
                task.call.cancel()
            # told when the scheduler looks next (call_sched_hangup)
            self.later(self._next_look() - self.wall(), self._tell_task, "DEL_SCHEDULE", task)
        return len(found)

    def _tell_task(self, name: str, task: Task) -> None:
        self.fire(
            name,
            [
                ("Task-ID", str(task.number)),
                ("Task-Desc", task.description),
                ("Task-Group", task.group),
                ("Task-Runtime", str(task.runtime)),
            ],
        )

    # --- commands

    def api(self, command: str, argument: str, done: Callable[[str], None]) -> None:
        """Run an API command; `done` gets its output, for `originate` when the dialling is over."""
        argument = argument.strip(" \t\n\r\v\f")
        about = [("API-Command", command)]
        if argument:
            about.append(("API-Command-Argument", argument))
        self.fire("API", about)
        if command.lower() != "originate":
            done(api.run(self, command, argument))
            return
        try:
            order = parse(argument)
        except DialStringError as error:
            done(error.reply + "\n")
            return
        Originating(self, order, done).begin()

    def background(self, job: str, command: str, argument: str) -> None:
        """Run an API command as a background job; its answer is an event."""
        # a thread of its own: it starts a moment after the command's reply
        self.later(
            0.001, self.api, command, argument, lambda answer: self._job_done(job, command, argument, answer)
        )

    def _job_done(self, job: str, command: str, argument: str, answer: str) -> None:
        delay = self.faults.late()
        if delay:
            self.later(delay, self._tell_job, job, command, argument, answer)
        else:
            self._tell_job(job, command, argument, answer)

    def _tell_job(self, job: str, command: str, argument: str, answer: str) -> None:
        headers = [("Job-UUID", job), ("Job-Command", command)]
        if argument:
            headers.append(("Job-Command-Arg", argument))
        self.fire("BACKGROUND_JOB", headers, answer.encode("utf-8", "surrogateescape"))

    # --- dying

    def restart(self, *, revive: Iterable[str] = ()) -> None:
        """FreeSWITCH dies and starts again: connections are cut and channels forgotten without an event.

        Those in `revive` are kept as `sofia recover` keeps them: the same uuid and variables, answered, parked, what was
        scheduled for them gone.
        """
        self._cut()
        kept = set(revive)
        for uuid, channel in list(self.channels.items()):
            if uuid in kept and channel.answered and channel.up:
                channel.recover()
            else:
                channel.vanish()
                del self.channels[uuid]
        self._boot()
        for channel in self.channels.values():
            channel.runner.start([("park", None)])

    def stop(self) -> None:
        """End everything: cut the connections, forget the channels, leave nothing on the clock."""
        self._cut()
        for channel in self.channels.values():
            channel.vanish()
        self.channels.clear()

    def _cut(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()
        self.tasks.clear()
        self._beating = None
        for session in list(self.sessions):
            session.cut()
        self.sessions.clear()
        self._wanted = set()


class Factory(TwistedFactory):
    """Serves a switch's event socket, on a TCP endpoint for example."""

    noisy = False

    def __init__(self, switch: Switch) -> None:
        self.switch = switch

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # noqa: ARG002 - Twisted's name
        """A new connection."""
        protocol = self.switch.protocol()
        protocol.factory = self
        return protocol


@lru_cache(maxsize=256)
def _local(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


@lru_cache(maxsize=256)
def _dates(seconds: int) -> tuple[str, str]:
    at = datetime.fromtimestamp(seconds, UTC)
    days, months = (
        ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    )
    gmt = f"{days[at.weekday()]}, {at.day:02d} {months[at.month - 1]} {at.year} {at:%H:%M:%S} GMT"
    return _local(seconds), gmt
