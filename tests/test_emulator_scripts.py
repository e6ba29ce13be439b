"""What applications do, against recordings of the outbound socket: the same messages over an inbound connection.

The emulator has no outbound socket, so what the recorded server sent is translated: `sendmsg` names the channel, `getvar`
becomes `api uuid_getvar`.  Keys were pressed over a connection that is not in the recordings: their times stand in PRESSED.
Compared are the applications with their order, lengths and responses, the events of recordings and sounds, the keys,
the causes, and the variables that scripts read.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.task import Clock
from twisted.trial import unittest

from plivotx.emulator.memory import Network, run
from plivotx.emulator.switch import Switch
from tests.test_emulator_replay import STEP, Client, Frame, frames, wall_of
from tests.transcripts import Line, load, needs_transcripts, transcripts

PRESSED: dict[str, list[tuple[float, str]]] = {
    "out_break": [(2.47, "5")],
    "out_digits_no_divert": [(0.71, "42#")],
    "out_digits_sent": [],  # its far end presses them
    "out_digits_terminator": [(0.71, "42#"), (1.33, "77#")],
    "out_digits_timeout": [(3.55, "99"), (6.98, "99")],
    "out_dtmf": [],
    "out_event_lock": [],
    "out_execute": [],
    "out_hangup_cause": [],
    "out_record": [(1.93, "#")],
    "out_record_silence": [],
    "out_record_unwritable": [],
    "out_schedule_hangup": [],
    "out_speak": [],
    "out_transfer_app": [],
    "out_transfer_during_playback": [],
    "out_unknown_app": [],
}
"""The recordings that are played, and the keys that were pressed: seconds, digits."""

LEFT_OUT = {
    **dict.fromkeys(
        [name for name in transcripts() if name.startswith("out_bridge")] + ["out_inbound_bridge"], "bridge"
    ),
    **dict.fromkeys(
        [
            "out_inbound_call",
            "out_inbound_call_refused",
            "out_hangup_reject_unanswered",
            "out_redirect",
            "out_respond",
            "out_caller_cancel",
        ],
        "incoming calls",
    ),
    "out_conference": "conferences",
    "out_deflect": "deflect",
    "out_digit_action": "bind_digit_action",
    "out_early_media_leg": "the leg of a far end",
    **dict.fromkeys(
        [
            "out_connect",
            "out_event_json",
            "out_events_and_divert",
            "out_exit",
            "out_farend_hangup_linger",
            "out_farend_hangup_linger_time",
            "out_farend_hangup_nolinger",
            "out_farend_hangup_queued",
            "out_farend_hangup_sync",
            "out_getvar_odd",
            "out_header_traps",
            "out_no_connect",
            "out_no_myevents",
            "out_not_full",
            "out_resume",
            "out_server_closes",
            "out_server_closes_sync",
            "out_sync",
            "out_sync_async_header",
            "out_sync_bare",
        ],
        "the outbound socket itself",
    ),
}

VARIABLES = (
    "read_result",
    "read_terminator_used",
    "playback_terminator_used",
    "current_application_response",
    "silence_hits_exhausted",
    "record_completion_cause",
    "digits_dialed",
    "got",
    "got_digits",
    "heard",
    "inval_invalid",
    "inv2_invalid",
)
"""Compared as they are at the end of each application."""
NUMBERS = {"playback_ms": 0, "playback_last_offset_pos": 640, "record_ms": 60, "record_file_size": 960}
"""Compared with what they may differ by."""
SPOKEN = {"speak", "say"}
"""Applications whose length the emulator makes up; and a `playback` of `say:`."""


@dataclass
class Story:
    """What happened on the channel."""

    order: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    lengths: list[tuple[str, float]] = field(default_factory=list)
    variables: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    numbers: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    finished: int = 0


def read(found: list[Frame], uuid: str, wanted: set[str]) -> Story:
    story = Story()
    began: dict[str, float] = {}
    for frame in found:
        if not frame.is_event:
            continue
        event = {name: _decode(value) for name, value in frame.event()[0]}
        name, app = event.get("Event-Name", ""), event.get("Application", "")
        if event.get("Unique-ID") != uuid or app in {"park", "socket"}:
            continue
        if name == "DTMF":
            story.keys.append(f"{event['DTMF-Digit']} {event['DTMF-Duration']} {event['DTMF-Source']}")
        if name not in wanted:
            continue
        if "Hangup-Cause" in event:
            # whether a playback that the end cut off was PLAYED or an ERROR is a race (out_schedule_hangup)
            event.pop("Application-Response", None)
            event.pop("variable_current_application_response", None)
        about = [name, app, event.get("Application-Data"), event.get("Application-Response")]
        about += [
            event.get("Record-File-Path"),
            event.get("Playback-File-Path"),
            event.get("Playback-Status"),
        ]
        if name == "CHANNEL_HANGUP":
            about.append(event["Hangup-Cause"])
        told = " ".join(filter(None, about))
        story.order.append(told)
        if name == "CHANNEL_EXECUTE":
            began[event["Application-UUID"]] = frame.t
        if name in {"CHANNEL_EXECUTE_COMPLETE", "RECORD_STOP", "CHANNEL_HANGUP_COMPLETE"}:
            story.finished += 1
            variables = {key: event["variable_" + key] for key in VARIABLES if "variable_" + key in event}
            numbers = {key: int(event["variable_" + key]) for key in NUMBERS if "variable_" + key in event}
            if app != "record":
                # how much of a session is recorded while it sleeps or parks FreeSWITCH alone knows: names only
                numbers = {key: 0 if key.startswith("record") else value for key, value in numbers.items()}
            story.variables.append((told, variables))
            story.numbers.append((told, numbers))
        if name == "CHANNEL_EXECUTE_COMPLETE" and event["Application-UUID"] in began:
            spoken = app in SPOKEN or "say:" in event.get("Application-Data", "")
            length = 0.0 if spoken else frame.t - began[event["Application-UUID"]]
            story.lengths.append((told, round(length, 2)))
    return story


def _decode(value: str) -> str:
    return re.sub("%([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), value)


def translated(line: Line, uuid: str) -> bytes:
    """What the server sent, for an inbound connection; empty if it concerns only its own connection."""
    if line.data.startswith(b"sendmsg"):
        return b"sendmsg " + uuid.encode() + line.data[len(b"sendmsg") :]
    if line.data.startswith(b"getvar "):
        name = line.data.decode("latin-1").split()[1]
        return f"api uuid_getvar {uuid} {name}\n\n".encode()
    return line.data if line.data.startswith((b"api ", b"bgapi ")) else b""


def asked(lines: list[Line], found: list[Frame]) -> list[str]:
    """The answers to `getvar`."""
    replies = [frame for frame in found if not frame.is_event and "notice" not in frame.kind]
    questions = [line for line in lines if line.data]
    answers = []
    for question, reply in zip(questions, replies, strict=False):
        if question.data.startswith(b"getvar "):
            text = dict(reply.headers).get("Reply-Text", "")
            answers.append("_undef_" if text == "-ERR command not found" else text)
    return answers


def play(name: str) -> tuple[Story, Story, list[str], list[str]]:
    """Return what was recorded and what the emulator did, and the values asked for."""
    lines = [line for line in load(name) if line.peer == "outbound:1"]
    found = list(frames([(line.t, line.data) for line in lines if line.dir == "recv"]))
    text = b"".join(line.data for line in lines if line.dir == "recv").decode("latin-1")
    uuid = re.search("Unique-ID: (.{36})", text)
    channel = re.search(r"Channel-Name: sofia/lab/(\w+)", _decode(text))
    assert uuid is not None
    assert channel is not None
    clock = Clock()
    start = clock.seconds()
    switch = Switch(clock, wall=wall_of({"outbound:1": found}))
    switch._phase = 0.297 if name == "out_schedule_hangup" else 0.0997
    switch.languages.clear()  # the lab had no sound files for `say`
    switch.unwritable.add("/var/esl/afile/")
    network = Network(clock, switch)
    network.latency = 0.0001
    client = Client(clock, 0.0)
    network.connect(client)
    clock.advance(0.0005)
    assert client.transport is not None
    client.transport.write(b"auth ClueCon\n\nevent plain ALL\n\n")
    client.transport.write(
        f"bgapi originate {{origination_uuid={uuid[1]}}}sofia/gateway/self/{channel[1]} &park()\n\n".encode()
    )
    wanted = {"CHANNEL_EXECUTE", "CHANNEL_EXECUTE_COMPLETE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"}
    names = {dict(frame.event()[0]).get("Event-Name", "") for frame in found if frame.is_event}
    wanted |= names & {"RECORD_START", "RECORD_STOP", "PLAYBACK_START", "PLAYBACK_STOP"}

    def ours() -> Story:
        return read(list(frames(client.chunks)), uuid[1], wanted)

    questions = 0
    todo: list[tuple[float, Line | str]] = [(line.t, line) for line in lines if line.dir == "send"]
    todo = sorted([*todo, *PRESSED[name]], key=lambda item: item[0])
    for t, what in todo:
        run(clock, max(t + start - clock.seconds(), 0.0))
        if isinstance(what, str):
            switch.api("uuid_recv_dtmf", f"{uuid[1]} {what}", lambda _: None)
            continue
        finished = read([frame for frame in found if frame.t <= t], uuid[1], wanted).finished
        late = 0
        while late < 400 and ours().finished < finished:
            run(clock, STEP)
            start += STEP
            late += 1
        questions += what.data.startswith(b"getvar ")
        client.transport.write(translated(what, uuid[1]))
    run(clock, max(lines[-1].t + start - clock.seconds(), 0.0) + 0.2)
    switch.stop()
    answers = [
        frame.body.decode("latin-1") for frame in frames(client.chunks) if frame.kind == "api/response"
    ]
    # a line feed cuts a reply to getvar (NOTES.md)
    values = [answer.partition("\n")[0] for answer in answers if not answer.startswith(("+OK", "-ERR"))]
    sends = [line for line in lines if line.dir == "send"]
    return read(found, uuid[1], wanted), ours(), asked(sends, found), values


@needs_transcripts
class Scripts(unittest.TestCase):
    """Each recording is a test."""

    maxDiff = None

    def check(self, name: str) -> None:
        theirs, ours, wanted, got = play(name)
        self.assertTrue(theirs.order)
        self.assertEqual(ours.order, theirs.order, "order")
        self.assertEqual(ours.keys, theirs.keys, "keys")
        self.assertEqual(got, wanted, "values asked for")
        self.assertEqual(ours.variables, theirs.variables, "variables")
        for (told, numbers), (_, found) in zip(theirs.numbers, ours.numbers, strict=True):
            self.assertEqual(sorted(found), sorted(numbers), told)
            for key, value in numbers.items():
                self.assertTrue(
                    abs(found[key] - value) <= NUMBERS[key], f"{told}: {key} {found[key]} {value}"
                )
        for (told, seconds), (_, found_seconds) in zip(theirs.lengths, ours.lengths, strict=True):
            self.assertTrue(
                abs(seconds - found_seconds) <= 0.1, f"{told}: {found_seconds}, recorded {seconds}"
            )

    def test_every_recording_is_played_or_left_out_for_a_reason(self):
        known = sorted({*PRESSED, *LEFT_OUT})
        self.assertEqual([name for name in transcripts() if name.startswith("out_")], known)
        self.assertEqual(set(PRESSED) & set(LEFT_OUT), set())


def _test(name: str) -> Callable[[Scripts], None]:
    def test(self: Scripts) -> None:
        self.check(name)

    return test


for _name in PRESSED:
    setattr(Scripts, f"test_{_name}", _test(_name))
