"""One channel: what FreeSWITCH knows of a call leg, the headers its events carry, and its life from dialling to the end.

Header names and their order, states and time stamps are those of the recordings orig_answer_park_all (all events),
orig_early_media*, orig_486, orig_loopback_*, orig_caller_id and call_transfer_inline.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from plivotx.causes import q850
from plivotx.emulator.causes import SIP_STATUS
from plivotx.emulator.dialstring import integer, true
from plivotx.emulator.digits import Digit, Outgoing
from plivotx.emulator.events import Headers
from plivotx.emulator.recording import Audio, Recording, stop_session
from plivotx.emulator.runner import Runner
from plivotx.emulator.sipvars import STATISTICS, answered, dialled, media, offered
from plivotx.emulator.variables import Variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from plivotx.emulator.switch import Switch

FRAME = 0.02
"""Seconds of one audio frame: how long a channel takes to notice a message, a break or its own end."""

_NUMBERS = {
    "CS_NEW": 0,
    "CS_INIT": 1,
    "CS_ROUTING": 2,
    "CS_EXECUTE": 4,
    "CS_CONSUME_MEDIA": 7,
    "CS_HANGUP": 10,
    "CS_REPORTING": 11,
    "CS_DESTROY": 12,
}
_CALL_STATES = {"DOWN": 0, "DIALING": 1, "RINGING": 2, "EARLY": 3, "ACTIVE": 4, "HANGUP": 8}
_CODEC_HEADERS = (
    ("channel-read-codec-name", "channel-read-codec-rate", "channel-read-codec-bit-rate"),
    ("Channel-Write-Codec-Name", "Channel-Write-Codec-Rate", "Channel-Write-codec-bit-rate"),
)
SPOKEN = ("PCMU", "PCMA")
"""The codecs of our far ends."""
_PROFILE_VARIABLES = {
    "destination_number": "destination",
    "caller_id_name": "caller_name",
    "caller_id_number": "caller_number",
    "callee_id_name": "callee_name",
    "callee_id_number": "callee_number",
    "network_addr": "network_addr",
    "context": "context",
    "dialplan": "dialplan",
    "source": "source",
    "ani": "ani",
    "rdnis": "rdnis",
    "uuid": "uuid",
    "chan_name": "name",
}


class Channel:
    """A call leg.  Times are microseconds of the switch's wall clock, 0 is never."""

    def __init__(
        self,
        switch: Switch,
        uuid: str,
        *,
        endpoint: str,
        name: str,
        destination: str,
        caller_name: str = "",
        caller_number: str = "",
    ) -> None:
        self.switch = switch
        self.uuid = uuid
        self.endpoint = endpoint
        self.name = name
        self.direction = "outbound"
        self.variables = Variables()
        self.session_id = switch.next_session()
        # the caller profile
        self.destination = destination
        self.caller_name = caller_name
        self.caller_number = caller_number or "0000000000"
        self.orig_caller_name = caller_name
        self.orig_caller_number = self.caller_number
        self.callee_name = "Outbound Call"
        self.callee_number = destination
        self.ani = self.caller_number
        self.network_addr = ""
        self.source = "src/switch_ivr_originate.c"
        self.context = "default"
        self.dialplan = ""
        self.rdnis = ""
        self.transfer_source = ""
        self.profile_index = 1
        self.profile_created = self.created = switch.micros()
        self.progress = self.progress_media = self.answered_at = self.ended_at = self.transferred = 0
        # states
        self.state = "CS_NONE"
        self.state_number = 1
        self.call_state = "DOWN"
        self.answer_state = "ringing"
        self.hit_dialplan = False
        self.codec: tuple[str, str, str] | None = None
        self.cause = ""
        self.media = False
        self.flipped = False
        self.originating = False
        """Being dialled: nobody else runs applications on it."""
        self.held = False
        """The one who dials still holds it: it is destroyed when let go."""
        self.job_first = False
        """Its end is reported behind the answer of the job that dialled it."""
        self.finished = False
        self.digits_dialed = ""
        self.runner = Runner(self)
        self.outgoing = Outgoing(self)
        """Digits on their way to the far end."""
        self.keys: deque[Digit] = deque()
        """Keys pressed that nobody has taken yet."""
        self.audio = Audio()
        """What the far end sends."""
        self.recordings: dict[str, Recording] = {}
        """Running recordings of the session, by file."""
        self.watch: Callable[[], None] | None = None
        """Told of each answer, early media and end while somebody dials it."""
        self.on_end: Callable[[], None] | None = None
        """The far end, told that we hung up."""
        self.they_hung_up = False
        self.tried = False
        """100 Trying came: then giving up sends a CANCEL."""

    @property
    def answered(self) -> bool:
        """Whether the far end answered."""
        return self.answered_at != 0

    @property
    def early(self) -> bool:
        """Whether there was early media."""
        return self.progress_media != 0

    @property
    def has_audio(self) -> bool:
        """Whether audio can be sent: in early media it begins behind what `execute_on_media` runs."""
        return self.media or (self.endpoint != "sofia" and (self.answered or self.early))

    @property
    def up(self) -> bool:
        """Whether it can still be found: from the hangup on, uuid_exists and all others do not know it."""
        return not self.cause

    def __repr__(self) -> str:
        return f"<Channel {self.uuid} {self.name} {self.state} {self.answer_state}>"

    # --- headers

    def state_headers(self) -> Headers:
        """The headers that every event of a channel has."""
        headers = [
            ("Channel-State", self.state),
            ("Channel-Call-State", self.call_state),
            ("Channel-State-Number", str(self.state_number)),
            ("Channel-Name", self.name),
            ("Unique-ID", self.uuid),
            ("Call-Direction", self.direction),
            ("Presence-Call-Direction", self.direction),
            ("Channel-HIT-Dialplan", "true" if self.hit_dialplan else "false"),
            ("Channel-Call-UUID", self.uuid),
            ("Answer-State", self.answer_state),
        ]
        if self.cause:
            headers.append(("Hangup-Cause", self.cause))
        if self.codec is not None:
            codec, rate, bits = self.codec
            headers += [
                ("Channel-Read-Codec-Name", codec),
                ("Channel-Read-Codec-Rate", rate),
                ("Channel-Read-Codec-Bit-Rate", bits),
                ("Channel-Write-Codec-Name", codec),
                ("Channel-Write-Codec-Rate", rate),
                ("Channel-Write-Codec-Bit-Rate", bits),
            ]
        return headers

    def caller_headers(self) -> Headers:
        """The caller profile, without what is empty."""
        headers = [
            ("Caller-Direction", self.direction),
            ("Caller-Logical-Direction", self.direction),
            ("Caller-Dialplan", self.dialplan),
            ("Caller-Caller-ID-Name", self.caller_name),
            ("Caller-Caller-ID-Number", self.caller_number),
            ("Caller-Orig-Caller-ID-Name", self.orig_caller_name),
            ("Caller-Orig-Caller-ID-Number", self.orig_caller_number),
            ("Caller-Callee-ID-Name", self.callee_name),
            ("Caller-Callee-ID-Number", self.callee_number),
            ("Caller-Network-Addr", self.network_addr),
            ("Caller-ANI", self.ani),
            ("Caller-Destination-Number", self.destination),
            ("Caller-Unique-ID", self.uuid),
            ("Caller-Source", self.source),
            ("Caller-Transfer-Source", self.transfer_source),
            ("Caller-Context", self.context),
            ("Caller-RDNIS", self.rdnis),
            ("Caller-Channel-Name", self.name),
            ("Caller-Profile-Index", str(self.profile_index)),
            ("Caller-Profile-Created-Time", str(self.profile_created)),
            ("Caller-Channel-Created-Time", str(self.created)),
            ("Caller-Channel-Answered-Time", str(self.answered_at)),
            ("Caller-Channel-Progress-Time", str(self.progress)),
            ("Caller-Channel-Progress-Media-Time", str(self.progress_media)),
            ("Caller-Channel-Hangup-Time", str(self.ended_at)),
            ("Caller-Channel-Transfer-Time", str(self.transferred)),
            ("Caller-Channel-Resurrect-Time", "0"),
            ("Caller-Channel-Bridged-Time", "0"),
            ("Caller-Channel-Last-Hold", "0"),
            ("Caller-Channel-Hold-Accum", "0"),
            ("Caller-Screen-Bit", "true"),
            ("Caller-Privacy-Hide-Name", "false"),
            ("Caller-Privacy-Hide-Number", "false"),
        ]
        return [header for header in headers if header[1]]

    def variable_headers(self) -> Headers:
        """All variables, as events with variables and uuid_dump have them."""
        return [("variable_" + name, value) for name, value in self.variables.items()]

    def get(self, name: str) -> str | None:
        """A variable, else what the caller profile knows under that name, else a global variable."""
        value: str | None = self.variables.get(name)
        if value is not None:
            return value
        attribute = _PROFILE_VARIABLES.get(name.lower())
        if attribute is not None:
            profile: str = getattr(self, attribute)
            return profile or None
        known: str | None = self.switch.globals.get(name)
        return known

    def set(self, name: str, value: str | None) -> None:
        """Set a variable; None or an empty value unsets it."""
        self.variables[name] = value or ""

    def fire(self, name: str, *extra: tuple[str, str], before: Headers | None = None) -> None:
        """Send an event of this channel; `extra` headers stand last, `before` ones first."""
        self.switch.fire_channel(name, self, extra, before or [])

    def _enter(self, state: str, number: int | None = None, *, tell: bool = True) -> None:
        self.state = state
        self.state_number = _NUMBERS[state] if number is None else number
        if tell:
            self.fire("CHANNEL_STATE")

    def _set_call_state(self, state: str) -> None:
        if self.call_state == state:
            return
        before = [
            ("Original-Channel-Call-State", self.call_state),
            ("Channel-Call-State-Number", str(_CALL_STATES[state])),
        ]
        self.call_state = state
        self.fire("CHANNEL_CALLSTATE", before=before)

    # --- dialling

    def created_variables(self) -> None:
        """Set what a fresh outgoing channel has before the dial string's own variables."""
        for name, value in (
            ("direction", "outbound"),
            ("is_outbound", "true"),
            ("uuid", self.uuid),
            ("call_uuid", self.uuid),
            ("session_id", str(self.session_id)),
        ):
            self.variables[name] = value

    def begin(self) -> None:
        """Start dialling: the channel exists from here on."""
        self._enter("CS_INIT", 1)
        self.state_number = 2
        if self.endpoint == "sofia":
            self.network_addr = ""
            self.variables.take(dialled(self.destination))
        self.fire("CHANNEL_CREATE")
        self.fire("CHANNEL_ORIGINATE")
        self._enter("CS_ROUTING")
        self._enter("CS_CONSUME_MEDIA")

    def _heard_of(self) -> None:
        """Learn from the first SIP reply that is no refusal."""
        if self.endpoint != "sofia" or self.network_addr:
            return
        self.network_addr = "127.0.0.1"
        self.callee_name = self.destination
        if self.orig_caller_name:
            self.variables["sip_from_display"] = self.orig_caller_name
        self.variables.take(answered(self.destination, self.orig_caller_number, self.switch.user_agent))

    def _media_offered(self) -> None:
        """Take the far end's session description."""
        if self.endpoint == "sofia" and not self.media:
            self.variables.take(offered(self._agreed_codec()))

    def _media_up(self) -> None:
        """Have audio, as was agreed."""
        if self.endpoint == "sofia" and not self.media:
            codec = self._agreed_codec()
            self.variables.take(media(codec))
            self.media = True
            self.codec = (codec, "8000", "64000")
            for names in _CODEC_HEADERS:
                self.fire("CODEC", *zip(names, self.codec, strict=True))

    def _agreed_codec(self) -> str:
        wanted = codecs(self.get("absolute_codec_string") or "PCMU")
        return next((name for name in wanted if name in SPOKEN), "PCMU")

    def ring(self) -> None:
        """The far end rings."""
        if not self.up or self.progress or self.answered:
            return
        self._heard_of()
        self.progress = self.switch.micros()
        self.fire("CHANNEL_PROGRESS")
        self.runner.execute_on("execute_on_ring")
        self._api_on("api_on_ring")
        self._set_call_state("RINGING")

    def pre_answer(self) -> None:
        """The far end sends early media."""
        if not self.up or self.early or self.answered:
            return
        self._heard_of()
        self._media_offered()
        self.answer_state = "early"
        self.variables["endpoint_disposition"] = "EARLY MEDIA"
        self.progress_media = self.switch.micros()
        self.fire("CHANNEL_PROGRESS_MEDIA")
        self.runner.execute_on("execute_on_pre_answer")
        self.runner.execute_on("execute_on_media")
        self._api_on("api_on_pre_answer")
        self._api_on("api_on_media")
        self._media_up()
        self._set_call_state("EARLY")
        self._tell()

    def answer(self) -> None:
        """The far end answers.  The event still shows the states and the disposition from before (NOTES.md)."""
        if not self.up or self.answered:
            return
        self._heard_of()
        self._media_offered()
        self._media_up()
        self.answered_at = self.switch.micros()
        self.answer_state = "answered"
        self.fire("CHANNEL_ANSWER")
        if not self.up:
            return
        beat = self.get("enable_heartbeat_events")
        if beat:
            seconds = integer(beat) or (60 if true(beat) else 0)
            if seconds > 0:
                self.switch.later(seconds - FRAME, self._beat, seconds)
        self.variables["endpoint_disposition"] = "ANSWER"
        self.runner.execute_on("execute_on_answer")
        if not self.early:
            self.runner.execute_on("execute_on_media")
            self._api_on("api_on_media")
        self._api_on("api_on_answer")
        self._set_call_state("ACTIVE")
        self._tell()

    def _beat(self, seconds: int) -> None:
        if self.up:
            self.fire("SESSION_HEARTBEAT")
            self.switch.later(seconds, self._beat, seconds)

    def refuse(self, cause: str, *, reached: bool = True) -> None:
        """The far end refuses, with the SIP status of that cause; or it was not even reached (ICMP, orig_dead_gateway)."""
        if not self.up:
            return
        if self.endpoint == "sofia":
            status, phrase = SIP_STATUS.get(cause, (503, "Service Unavailable"))
            for name in ("reply", "network"):
                self.variables[f"sip_{name}_port"] = "5080"
                if reached:
                    self.variables[f"sip_{name}_{'host' if name == 'reply' else 'ip'}"] = "127.0.0.1"
            if reached:
                self.network_addr = "127.0.0.1"
            self.variables["sip_hangup_disposition"] = "recv_refuse"
            self.variables["sip_call_id"] = "1"
            self.variables["sip_invite_failure_status"] = str(status)
            self.variables["sip_invite_failure_phrase"] = phrase
            self._sip_end(status, cause)
        self.they_hung_up = True
        self.hangup(cause, delay=0)

    def bye(self, cause: str = "NORMAL_CLEARING") -> None:
        """The far end hangs up an answered call, or gives up an early one."""
        if not self.up:
            return
        if self.endpoint == "sofia":
            self.variables["sip_reason"] = f'Q.850;cause={q850(cause)};text="{cause}"'
            self._sip_end(200, cause)
        self.they_hung_up = True
        self.hangup(cause, delay=0)

    def _sip_end(self, status: int, cause: str) -> None:
        self.variables["sip_term_status"] = str(status)
        self.variables["proto_specific_hangup_cause"] = f"sip:{status}"
        self.variables["sip_term_cause"] = str(q850(cause))

    def flip(self) -> None:
        """Turn the caller id round, as an originated leg does when its application starts (NOTES.md, section 2)."""
        if self.flipped:
            return
        self.flipped = True
        self.hit_dialplan = True
        if self.caller_name:
            self.variables["pre_transfer_caller_id_name"] = self.caller_name
        self.variables["pre_transfer_caller_id_number"] = self.caller_number
        self.caller_name, self.callee_name = self.callee_name, self.caller_name
        self.caller_number, self.callee_number = self.callee_number, self.caller_number
        self.variables["channel_cid_flipped"] = "yes"
        self.fire("CALL_UPDATE", before=[("Direction", "RECV")])

    def transfer(self, target: str, dialplan: str, context: str) -> None:
        """Change the caller profile as a transfer does (call_transfer_inline)."""
        self.profile_index += 1
        now = self.switch.micros()
        short = f"{target}/{context}/{dialplan}" if dialplan.lower() != "inline" else target
        source = f"{now // 1_000_000}:{self.switch.new_uuid()}:bl_xfer:{short}"
        self.transfer_source = source
        if self.get("transfer_history"):
            self.variables.push("transfer_history", source)
        else:
            self.variables["transfer_history"] = source
        self.variables["transfer_source"] = source
        self.variables["max_forwards"] = str(int(self.get("max_forwards") or "71") - 1)
        self.profile_created = now
        self.dialplan, self.context = dialplan, context
        self.rdnis, self.destination = self.destination, target

    def execute_state(self) -> None:
        """Enter the state in which applications run."""
        self.hit_dialplan = True
        self._enter("CS_EXECUTE")

    def route(self, found: bool) -> None:
        """Ask the dialplan: the inline one gives the old number back, the XML one says what it matched."""
        if self.dialplan.lower() == "inline":
            self.rdnis, self.destination = "", self.rdnis
        elif found:
            self.variables["DP_MATCH"] = self.destination
        self._enter("CS_ROUTING")

    # --- keys and audio

    def press(self, digit: Digit) -> None:
        """A key was pressed: it waits until an application takes it."""
        if self.up:
            self.keys.append(digit)
            self.runner.take_keys()

    def dequeued(self, digit: Digit) -> None:
        """A key was taken from the queue: only now its event comes (NOTES.md, section 2)."""
        self.digits_dialed += digit.digit
        self.fire(
            "DTMF",
            ("DTMF-Digit", digit.digit),
            ("DTMF-Duration", str(round(digit.seconds * 8000))),
            ("DTMF-Source", digit.source),
        )

    def hear(self, kind: str) -> None:
        """The far end begins to send audio of some kind (recording.Audio)."""
        self.audio.change(self.switch.clock.seconds(), kind)
        self.runner.audio_changed()

    # --- the end

    def hangup(self, cause: str, *, delay: float = FRAME) -> None:
        """End the call: the HANGUP event is at once, the rest when the channel's thread notices, `delay` seconds later."""
        if self.cause:
            return
        self.cause = cause
        if self.originating and self.switch.faults.swaps():
            self.job_first, delay = True, 3 * FRAME
        self.state_number = 10
        self.answer_state = "hangup"
        self.switch.ended_channel(self)
        self.fire("CHANNEL_HANGUP")
        if self.they_hung_up and self.answered and self.endpoint == "sofia":
            self.variables["sip_hangup_disposition"] = "recv_bye"
        if self.on_end is not None:
            self.on_end()
        self._tell()
        self.runner.stop(delay)

    def finish(self) -> None:
        """Report the end: hooks, HANGUP_COMPLETE, and DESTROY unless the one who dialled still holds the channel."""
        if self.finished:
            return
        self.finished = True
        self.runner.close()
        self._enter("CS_HANGUP")
        self._set_call_state("HANGUP")
        for recording in list(self.recordings.values()):
            stop_session(self, recording, ended=True)
        self.ended_at = self.switch.micros()
        self._cdr_variables()
        self._enter("CS_REPORTING")
        self._hook("api_hangup_hook")
        self._hook("api_reporting_hook")
        self.fire("CHANNEL_HANGUP_COMPLETE", before=[])
        self._tell()
        if not self.held:
            self.destroy()

    def destroy(self) -> None:
        """Remove the channel."""
        if self.state == "CS_DESTROY":
            return
        self.state_number = 12
        self.fire("CHANNEL_DESTROY")
        self.switch.forget(self)
        self._enter("CS_DESTROY")

    def release(self) -> None:
        """Let go of a channel that was held while it was dialled."""
        self.held = False
        if self.finished:
            self.destroy()

    def vanish(self) -> None:
        """The switch died: no event, no report."""
        self.cause = self.cause or "CRASH"
        self.finished = True
        self.watch = None
        self.runner.close()
        if self.on_end is not None:
            self.on_end()

    def recover(self) -> None:
        """The switch died and took this call up again; nothing is left of what ran on it."""
        self.runner.close()
        self.runner = Runner(self)
        self.keys.clear()
        self.recordings.clear()
        self.watch = None
        self.originating = self.held = False

    def _tell(self) -> None:
        if self.watch is not None:
            self.watch()

    def _api_on(self, prefix: str) -> None:
        for value in self.variables.beginning(prefix):
            self._hook_command(value)

    def _hook(self, name: str) -> None:
        value = self.get(name)
        if value:
            self._hook_command(value)

    def _hook_command(self, value: str) -> None:
        command, _, argument = value.partition(" ")
        self.switch.api(command, self.runner.expand(argument), _nobody)

    def _cdr_variables(self) -> None:
        variables, switch = self.variables, self.switch
        created, ended = self.created, self.ended_at
        variables["hangup_cause"] = self.cause
        variables["hangup_cause_q850"] = str(q850(self.cause))
        variables["digits_dialed"] = self.digits_dialed or "none"
        stamps = (
            ("start", created),
            ("profile_start", self.profile_created),
            ("answer", self.answered_at),
            ("progress", self.progress),
            ("progress_media", self.progress_media),
            ("end", ended),
        )
        for name, at in stamps:
            if at:
                variables[name + "_stamp"] = switch.local_time(at)
        times = dict(stamps, bridge=0, last_hold=0, resurrect=0)
        for name in ("start", "profile_start", "answer", "bridge", "last_hold"):
            variables[name + "_epoch"] = str(times[name] // 1_000_000)
            variables[name + "_uepoch"] = str(times[name])
        for unit in ("seconds", "usec", "ms"):
            variables["hold_accum_" + unit] = "0"
        for name in ("resurrect", "progress", "progress_media", "end"):
            variables[name + "_epoch"] = str(times[name] // 1_000_000)
            variables[name + "_uepoch"] = str(times[name])
        app, argument = self.runner.last
        if app:
            variables["last_app"] = app
            if argument:
                variables["last_arg"] = argument
        name = self.caller_name
        variables["caller_id"] = f'"{name}" <{self.caller_number}>' if name else self.caller_number
        spans = (
            ("duration", created, ended),
            ("bill", self.answered_at, ended),
            ("progress", created, self.progress),
            ("answer", created, self.answered_at),
            ("wait", 0, 0),
            ("progress_media", created, self.progress_media),
            ("flow_bill", created, ended),
        )
        for unit, divisor in (("sec", 1_000_000), ("msec", 1000), ("usec", 1)):
            for name, start, end in spans:
                span = 0
                if start and end:
                    # seconds are whole seconds of the clock, the others are exact
                    span = end // divisor - start // divisor if unit == "sec" else (end - start) // divisor
                if name == "duration":
                    key = {"sec": "duration", "msec": "mduration", "usec": "uduration"}[unit]
                else:
                    key = name + unit
                variables[key] = str(span)
        if self.endpoint == "loopback":
            variables["is_loopback"] = "1"
            return
        if self.endpoint != "sofia":
            return
        if not self.get("sip_hangup_disposition"):
            variables["sip_hangup_disposition"] = "send_bye" if self.answered else "send_cancel"
            if not self.answered and (self.network_addr or self.tried):
                variables["sip_invite_failure_status"] = "487"
                variables["sip_invite_failure_phrase"] = "CANCEL"
        if self.media:
            variables.take(STATISTICS)


def _nobody(_: str) -> None:
    """Take an answer that nobody waits for."""


def codecs(text: str) -> list[str]:
    """The codecs of an absolute_codec_string, in its order: a list by commas, or by X behind `^^X`, without their `@` parts."""
    delimiter = ","
    if text.startswith("^^") and len(text) > 3:
        delimiter, text = text[2], text[3:]
    return [each.strip().partition("@")[0].upper() for each in text.split(delimiter) if each.strip()]
