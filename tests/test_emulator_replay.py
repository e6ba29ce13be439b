"""The emulator against recordings of a real FreeSWITCH: the recorded client bytes at the recorded times, then compare.

Compared are the replies, the order of events of each channel, causes, job results, and the header names of each event.
Left out of the comparison: the far ends' own legs (in the lab they were inbound calls of the same switch).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial import unittest

from plivotx.emulator.api import COMMANDS
from plivotx.emulator.memory import Network, run
from plivotx.emulator.switch import Switch
from tests.transcripts import Line, load, needs_transcripts, transcripts

STEP = 0.005


@dataclass(frozen=True)
class How:
    """What one replay needs besides the recorded bytes."""

    killed: bool = False
    """The recorder ended the calls over a connection that is not in the recording."""
    phase: float = 0.0997
    """The rhythm of that FreeSWITCH's scheduler, seconds in half a second."""
    beat: float = 0.0
    """When the next HEARTBEAT was due, seconds from the start of the recording."""


KILLED = How(killed=True)
ALONE = How()

REPLAYED: dict[str, How] = {
    **dict.fromkeys(
        [
            "in_auth_missing",
            "in_auth_ok",
            "in_auth_wrong",
            "in_bgapi",
            "in_body_length",
            "in_event_json",
            "in_event_plain",
            "in_exit",
            "in_filter",
            "in_framing",
            "in_split_writes",
            "priv_reload_words",
            "orig_404",
            "orig_486",
            "orig_503",
            "orig_603",
            "orig_api_on_answer",
            "orig_cancel_before_ring",
            "orig_cancel_ringing",
            "orig_cancel_ringing_cause",
            "orig_codec_bad",
            "orig_dead_gateway",
            "orig_empty",
            "orig_enterprise_fail",
            "orig_error_bogus",
            "orig_error_user_busy",
            "orig_execute_on_answer",
            "orig_execute_on_ring",
            "orig_exten_unknown",
            "orig_far_end_bye",
            "orig_hangup_after_bridge_vars",
            "orig_hupall_ringing",
            "orig_inline_app",
            "orig_inline_exten",
            "orig_loopback_busy",
            "orig_loopback_no_ext",
            "orig_retries",
            "orig_self_no_ext",
            "orig_several_comma_all_fail",
            "orig_several_pipe_all_fail",
            "orig_several_pipe_timeout_stops",
            "orig_timeout",
            "orig_timeout_arg",
            "orig_unclosed_brace",
            "orig_unknown_endpoint",
            "orig_unknown_gateway",
            "orig_unknown_profile",
            "orig_user_nobody",
            "orig_user_nobody_domain",
            "call_kill_causes",
            "call_sched_hangup",
            "call_sendmsg_inbound",
            "call_transfer_inline",
            "call_vars",
        ],
        ALONE,
    ),
    **dict.fromkeys(
        [
            "in_bgapi_owner_gone",
            "in_value_encoding",
            "orig_answer_park",
            "orig_answer_park_all",
            "orig_answer_park_json",
            "orig_api_blocking",
            "orig_api_on_answer_dollar",
            "orig_caller_id",
            "orig_codec",
            "orig_codec_escaped",
            "orig_codec_quoted",
            "orig_early_media",
            "orig_early_media_ignored",
            "orig_early_media_not_ignored",
            "orig_enterprise",
            "orig_enterprise_common_vars",
            "orig_exten",
            "orig_leg_timeout",
            "orig_local_clobber",
            "orig_loopback_answer",
            "orig_same_twice",
            "orig_several_comma",
            "orig_several_pipe",
            "orig_several_pipe_leg_timeout",
            "orig_three_bracket_kinds",
            "orig_uri",
            "orig_uuid_duplicate",
            "orig_uuid_odd",
            "call_dtmf",
            "call_dtmf_from_far_end",
            "call_heartbeat",
            "call_heartbeat_ringing",
            "call_record",
        ],
        KILLED,
    ),
    "orig_execute_on_media": How(phase=0.437),
    "call_heartbeat_event": How(beat=2.868),
}

LEFT_OUT = {
    "in_api": "a hundred commands, most of which the emulator does not have: see the test of its own below",
    "in_log": "log/data messages: the emulator writes no log",
    "in_myevents": "uuid_broadcast; and the notice at the end of a channel that an inbound connection took over",
    "call_show_channels": "bridge, and the far ends' own rows",
    **dict.fromkeys(
        [
            "call_bridge",
            "call_bridge_a_hangs_up",
            "call_broadcast",
            "call_broadcast_parked",
            "call_displace",
            "call_transfer_to_socket",
            "call_uuid_bridge",
        ],
        "bridge, broadcast, displace or an outbound socket",
    ),
    **dict.fromkeys(["conf_one", "conf_plivo_profile", "conf_two"], "conferences"),
    **dict.fromkeys(
        [
            "priv_acl_rude_rejection",
            "priv_userauth",
            "priv_userauth_all",
            "priv_userauth_wrong",
        ],
        "another configuration: access lists, users",
    ),
}
"""Not replayed, with the reason; and all out_*: the outbound socket, see test_emulator_scripts."""

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass
class Frame:
    """One message from the switch."""

    t: float
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def kind(self) -> str:
        return dict(self.headers).get("Content-Type", "")

    @property
    def is_event(self) -> bool:
        return self.kind.startswith("text/event-")

    def event(self) -> tuple[list[tuple[str, str]], bytes]:
        """The headers, raw, and the inner body of an event."""
        if self.kind == "text/event-json":
            pairs: list[tuple[str, object]] = []
            json.loads(self.body.decode("utf-8", "replace"), object_pairs_hook=pairs.extend)
            return [(name, str(value)) for name, value in pairs if name != "_body"], b""
        head, _, body = self.body.partition(b"\n\n")
        return _headers(head), body


def _headers(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode("latin-1").split("\n")
    return [(name, value) for name, colon, value in (line.partition(": ") for line in lines) if colon]


def frames(chunks: list[tuple[float, bytes]]) -> Iterator[Frame]:
    """Cut a stream into its messages; each has the time of its last byte."""
    data = bytearray()
    for t, chunk in chunks:
        data += chunk
        while (end := data.find(b"\n\n")) >= 0:
            headers = _headers(bytes(data[:end]))
            length = int(next((value for name, value in headers if name.lower() == "content-length"), "0"))
            if len(data) < end + 2 + length:
                break
            yield Frame(t, headers, bytes(data[end + 2 : end + 2 + length]))
            del data[: end + 2 + length]


@dataclass
class Seen:
    """What a recording, or the emulator, said on one connection."""

    replies: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    order: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, list[tuple[str, frozenset[str]]]] = field(default_factory=dict)
    ends: dict[str, list[str]] = field(default_factory=dict)


def _plain(text: str) -> str:
    text = UUID.sub("UUID", text)
    if text.startswith("UP "):
        return "UP"
    if text.startswith("FreeSWITCH Version"):
        return "VERSION"
    text = re.sub(r"Added: \d+", "Added: N", text)
    return re.sub(r"^\d{2,}\n?$", "NUMBER", text)


def read(all_frames: list[Frame]) -> Seen:
    seen = Seen()
    keys: dict[str, str] = {}
    count: dict[str, int] = {}
    for frame in all_frames:
        if not frame.is_event:
            seen.replies.append(_reply(frame))
            continue
        pairs, body = frame.event()
        event = dict(pairs)
        name = event.get("Event-Name", "")
        if name == "BACKGROUND_JOB":
            text = body.decode("latin-1") or ""
            seen.jobs.append(f"{_plain(event.get('Job-UUID', ''))} {_plain(text)}")
            continue
        if "Unique-ID" not in event:
            # the far ends' dialplan and the recorder ran commands of their own
            if name != "API":
                seen.others.append(
                    f"{name} {body.decode('latin-1')!r} {sorted(header for header, _ in pairs)}"
                )
            continue
        if event.get("Call-Direction") != "outbound":
            continue
        uuid = event["Unique-ID"]
        if uuid not in keys:
            channel = event.get("Channel-Name", "")
            count[channel] = count.get(channel, 0) + 1
            keys[uuid] = f"{channel} {count[channel]}"
        key = keys[uuid]
        detail = event.get("Application") or event.get("DTMF-Digit") or ""
        seen.order.setdefault(key, []).append(f"{name} {detail}".strip())
        seen.names.setdefault(key, []).append((name, frozenset(header for header, _ in pairs)))
        if "Hangup-Cause" in event:
            seen.ends.setdefault(key, []).append(event["Hangup-Cause"])
    return seen


def _reply(frame: Frame) -> str:
    body = frame.body.decode("latin-1")
    if body.startswith(("Event-Name: CHANNEL_DATA", '{"Event-Name":"CHANNEL_DATA"')):
        names = re.findall(r'^([\w-]+): |[{,]"([\w-]+)":', body, re.MULTILINE)
        body = "CHANNEL_DATA " + " ".join(sorted({a or b for a, b in names}))
    elif body.startswith('{"row_count":') and "uuid" in body:
        body = "ROWS " + " ".join(sorted(set(re.findall(r'"(\w+)":', body))))
    head = [f"{name}: {_plain(value)}" for name, value in frame.headers if name.lower() != "content-length"]
    return " | ".join([*head, _plain(body)])


class Client(Protocol):
    """A connection that writes down what it gets."""

    def __init__(self, clock: Clock, start: float) -> None:
        self._clock, self._start = clock, start
        self.chunks: list[tuple[float, bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        self.chunks.append((self._clock.seconds() - self._start, data))


def recorded(lines: list[Line]) -> dict[str, list[Frame]]:
    peers: dict[str, list[tuple[float, bytes]]] = {}
    for line in lines:
        if line.dir == "recv" and line.peer.startswith("inbound"):
            peers.setdefault(line.peer, []).append((line.t, line.data))
    return {peer: list(frames(chunks)) for peer, chunks in peers.items()}


def wall_of(peers: dict[str, list[Frame]]) -> float:
    """FreeSWITCH's clock at the start of a recording: time-outs count its seconds."""
    for peer_frames in peers.values():
        for frame in peer_frames:
            if frame.is_event:
                stamp = dict(frame.event()[0]).get("Event-Date-Timestamp")
                if stamp:
                    return int(stamp) / 1e6 - frame.t
    return 1_800_000_000.0


def kills(peers: dict[str, list[Frame]], own: list[Line]) -> list[tuple[float, str]]:
    """When the recorder ended calls over a connection of its own."""
    seen = [line.t for line in own if re.search(rb"uuid_kill|hupall|hangup|uuid_transfer", line.data)]
    found: dict[str, tuple[float, str]] = {}
    for peer_frames in peers.values():
        for frame in peer_frames:
            if not frame.is_event:
                continue
            event = dict(frame.event()[0])
            if event.get("Call-Direction") == "outbound" and event.get("Hangup-Cause") == "NORMAL_CLEARING":
                back = 0.01 if event["Event-Name"] == "CHANNEL_HANGUP_COMPLETE" else 0.0
                found.setdefault(event["Unique-ID"], (frame.t - back, event["Channel-Name"]))
    return sorted(kill for kill in found.values() if not any(0 <= kill[0] + 0.04 - t < 0.1 for t in seen))


def count(found: list[Frame]) -> tuple[int, int, int]:
    events = [frame.body for frame in found if frame.is_event]
    jobs = sum(b"BACKGROUND_JOB" in body[:200] for body in events)
    ends = sum(b"HANGUP_COMPLETE" in body[:200] and b"variable_is_outbound" in body for body in events)
    return len(found) - len(events), jobs, ends


def replay(name: str, how: How) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """Return what was recorded and what the emulator said, by connection."""
    lines = load(name)
    peers = recorded(lines)
    clock = Clock()
    start = clock.seconds()
    switch = Switch(clock, wall=wall_of(peers))
    switch._phase = how.phase
    switch.started += how.beat
    switch.unwritable.add("/var/esl/afile/")
    network = Network(clock, switch)
    network.latency = 0.0001
    clients: dict[str, Client] = {}
    todo: list[tuple[float, str, object]] = [
        (line.t, "send", line) for line in lines if line.dir == "send" and line.peer.startswith("inbound")
    ]
    if how.killed:
        todo += [
            (t, "kill", channel)
            for t, channel in kills(peers, [line for line in lines if line.dir == "send"])
        ]
    todo.sort(key=lambda item: item[0])

    def advance(until: float) -> None:
        run(clock, max(until + start - clock.seconds(), 0.0))

    def heard(peer: str) -> tuple[int, int, int]:
        found = list(frames(clients[peer].chunks))
        return count(found)

    for t, kind, what in todo:
        advance(t)
        if isinstance(what, Line) and what.peer in clients:
            # the recorder waited for replies, job results and ends before it went on
            wanted = count([frame for frame in peers[what.peer] if frame.t <= t])
            late = 0
            while late < 400 and any(a < b for a, b in zip(heard(what.peer), wanted, strict=True)):
                advance(clock.seconds() - start + STEP)
                start += STEP
                late += 1
        if kind == "kill":
            for channel in list(switch.channels.values()):
                if channel.up and channel.name == str(what).replace("%40", "@").replace("%3A", ":"):
                    channel.hangup("NORMAL_CLEARING")
                    break
            continue
        assert isinstance(what, Line)
        if what.peer not in clients:
            clients[what.peer] = Client(clock, start)
            network.connect(clients[what.peer])
            clock.advance(0.0005)
        transport = clients[what.peer].transport
        assert transport is not None
        if what.data:
            transport.write(what.data)
    advance(lines[-1].t + 0.1)
    switch.stop()
    ours = {peer: read(list(frames(client.chunks))) for peer, client in clients.items()}
    return {peer: read(found) for peer, found in peers.items()}, ours


@needs_transcripts
class Replays(unittest.TestCase):
    """Each recording is a test: see REPLAYED."""

    maxDiff = None

    def check(self, name: str) -> None:
        theirs, ours = replay(name, REPLAYED[name])
        self.assertTrue(theirs)
        for peer, wanted in theirs.items():
            got = ours[peer]
            self.assertEqual(got.replies, wanted.replies, f"replies on {peer}")
            self.assertEqual(got.jobs, wanted.jobs, f"job results on {peer}")
            self.assertEqual(Counter(got.others), Counter(wanted.others), f"events without channel on {peer}")
            self.assertEqual(got.order, wanted.order, f"order of events on {peer}")
            self.assertEqual(got.ends, wanted.ends, f"causes on {peer}")
            for channel, events in wanted.names.items():
                for (event, names), (_, found) in zip(events, got.names[channel], strict=True):
                    self.assertEqual(sorted(found), sorted(names), f"headers of {event} of {channel}")

    def test_every_recording_is_replayed_or_left_out_for_a_reason(self):
        known = {*REPLAYED, *LEFT_OUT}
        self.assertEqual(
            sorted(set(transcripts()) - known), [n for n in transcripts() if n.startswith("out_")]
        )

    def test_answers_of_the_commands_that_the_emulator_knows(self):
        """The recording in_api, command by command."""
        lines = [line for line in load("in_api") if line.dir == "send" and line.data.startswith(b"api ")]
        answers = [
            frame.body for frame in recorded(load("in_api"))["inbound"] if frame.kind == "api/response"
        ]
        self.assertEqual(len(lines), len(answers))
        switch = Switch(Clock(), name="vm")
        different = {"status", "version", "uptime", "strepoch", "strftime", "create_uuid"}
        checked = 0
        for line, answer in zip(lines, answers, strict=True):
            command, _, argument = line.data[4:].split(b"\n")[0].decode().partition(" ")
            if command not in {*COMMANDS, "originate"} or command in different:
                continue
            got: list[str] = []
            switch.api(command, argument, got.append)
            wanted = re.sub(r"Added: \d+", "Added: 1", answer.decode())
            self.assertEqual(got[0] or "-ERR no reply\n", wanted, line.data)
            checked += 1
        self.assertGreater(checked, 45)


def _test(name: str) -> Callable[[Replays], None]:
    def test(self: Replays) -> None:
        self.check(name)

    return test


for _name in REPLAYED:
    setattr(Replays, f"test_{_name}", _test(_name))
