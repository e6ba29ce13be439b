"""Dials: one `originate` from its parsed line to `+OK uuid` or `-ERR CAUSE`, with all its legs.

Order of events, causes and time-outs by NOTES.md, section 2, and the recordings orig_*.  FreeSWITCH looks at its legs once
a frame, which is why the answer to the command comes up to 20 ms after what decided it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from plivotx.emulator.causes import cause as read_cause
from plivotx.emulator.channel import FRAME, SPOKEN, Channel, codecs
from plivotx.emulator.dialstring import Branch, Group, Leg, Originate, integer, true
from plivotx.emulator.farends import REACTION, Script, Step

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from plivotx.emulator.switch import Switch

Done = Callable[[str], None]

_NOWHERE = "DESTINATION_OUT_OF_ORDER"
_LOOPBACK = 0.001  # no SIP message has to travel


class Refused(Exception):
    """A leg for which no channel came to be."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Dialling:
    """One branch of an originate: groups one after the other, the legs of a group at the same time."""

    def __init__(
        self, switch: Switch, order: Originate, branch: Branch, done: Callable[[Dialling], None]
    ) -> None:
        self.switch = switch
        self.order = order
        self.branch = branch
        self.winner: Channel | None = None
        self.cause = _NOWHERE
        self._done = done
        self._over = False
        self._legs: list[Channel] = []
        self._group = -1
        self._tries = 1
        self._check_call: IDelayedCall | None = None
        self._timeout: IDelayedCall | None = None
        self._progress_timeout: IDelayedCall | None = None
        variables = branch.variables
        ignore = variables.get("ignore_early_media", "")
        self._early_ok = not (true(ignore) or ignore in {"consume", "ring_ready"})
        if true(variables.get("bridge_early_media")):
            self._early_ok = False
        seconds = integer(variables.get("originate_timeout"))
        self._seconds = seconds if seconds > 0 else order.timeout
        self._progress_seconds = integer(variables.get("progress_timeout"))
        retries = integer(variables.get("originate_retries"))
        self._most_tries = retries if 0 < retries < 101 else 1
        pause = integer(variables.get("originate_retry_sleep_ms"))
        self._pause = (pause if 500 <= pause <= 60000 else 1000) / 1000

    def begin(self) -> None:
        """Dial the first group."""
        if self.branch.broken:
            self._fail(_NOWHERE)
            return
        self._next_group()

    def cancel(self, cause: str) -> None:
        """Another branch won, or nobody wants it any more."""
        if self._over:
            return
        self._over = True
        self._stop_timers()
        self.cause = cause
        for leg in self._legs:
            leg.watch = None
            if cause == "LOSE_RACE":
                _lose(leg)
                leg.finish()
            else:
                leg.hangup(cause, delay=0)
        self._release()

    def hang_up_losers(self) -> list[Channel]:
        """Hang up the legs that lost the race; they report their end once the winner is under way."""
        losers = [leg for leg in self._legs if leg is not self.winner]
        for leg in losers:
            leg.watch = None
            _lose(leg)
        return losers

    def release(self) -> None:
        """Let go of all channels but the winner."""
        self._release()

    # --- groups

    def _next_group(self) -> None:
        self._group += 1
        if self._group >= len(self.branch.groups):
            if self._tries >= self._most_tries:
                self._fail(self.cause)
                return
            self._release()
            self._tries += 1
            self._group = -1
            self.switch.later(self._pause, self._again)
            return
        self._release()
        self._dial(self.branch.groups[self._group])

    def _again(self) -> None:
        if not self._over:
            self._next_group()

    def _dial(self, group: Group) -> None:
        self._legs = []
        refused = ""
        scripts: list[tuple[Channel, Script]] = []
        for leg in group.legs:
            try:
                channel, what = self._create(leg)
            except Refused as refusal:
                refused = refusal.cause
                continue
            self._legs.append(channel)
            scripts.append((channel, what))
        if group.broken:
            self.cancel(_NOWHERE)
            self._done(self)
            return
        if not self._legs:
            self.cause = refused or _NOWHERE
            self._next_group()
            return
        for channel in self._legs:
            channel.watch = self._look_soon
            channel.begin()
        now = self.switch.wall()
        if self._timeout is None:
            # whole seconds of the clock count: N-1..N seconds (orig_timeout)
            until = math.floor(now) + self._seconds - now
            self._timeout = self.switch.later(max(until, 0.0) + FRAME, self._timed_out)
        if self._progress_timeout is None and self._progress_seconds > 0:
            until = math.floor(now) + self._progress_seconds + 1 - now
            self._progress_timeout = self.switch.later(until + FRAME, self._progress_timed_out)
        for channel, what in scripts:
            limit = integer(channel.get("leg_progress_timeout"))
            if limit > 0:
                # N..N+1 seconds too (measured)
                until = math.floor(now) + limit + 1 - now
                self.switch.later(until + FRAME, self._leg_made_no_progress, channel)
            limit = integer(channel.get("leg_timeout"))
            if limit > 0:
                # N..N+1 seconds here (orig_leg_timeout)
                until = math.floor(now) + limit + 1 - now
                self.switch.later(until + FRAME, self._leg_timed_out, channel)
            FarEnd(channel, what).begin()

    def _create(self, leg: Leg) -> tuple[Channel, Script]:
        switch, options = self.switch, leg.options
        endpoint, address = leg.endpoint.lower(), leg.address or ""
        uuid = options.get("origination_uuid") or switch.new_uuid()
        what, name, number, more = _resolve(switch, endpoint, address)
        if uuid in switch.channels:
            if endpoint != "loopback":
                raise Refused(_NOWHERE)  # orig_uuid_duplicate
            uuid = switch.new_uuid()
        caller_name = options.get("origination_caller_id_name") or self.order.caller_id_name or ""
        caller_number = options.get("origination_caller_id_number") or self.order.caller_id_number or ""
        channel = Channel(
            switch,
            uuid,
            endpoint=endpoint,
            name=name,
            destination=number,
            caller_name=caller_name,
            caller_number=caller_number,
        )
        channel.created_variables()
        if what is None:
            # unknown gateway or profile: only its destruction is heard of (orig_unknown_gateway)
            self._never_was(channel)
            raise Refused(more["cause"])
        channel.held = channel.originating = True
        switch.add(channel, leg)
        if endpoint == "loopback":
            channel.dialplan, channel.source, channel.context = "xml", "mod_loopback", more["context"]
            channel.callee_number = more["context"]
            channel.codec = ("L16", "8000", "128000")
            for key, value in (
                ("read_codec", "L16"),
                ("read_rate", "8000"),
                ("write_codec", "L16"),
                ("write_rate", "8000"),
            ):
                channel.variables[key] = value
            channel.variables["channel_name"] = name
            if "origination_uuid" in options:
                channel.fire("CHANNEL_UUID", before=[("Old-Unique-ID", switch.new_uuid())])
        else:
            for key, value in more.items():
                channel.variables[key] = value
            channel.variables["channel_name"] = name
            if endpoint == "sofia":
                host = "127.0.0.1:5080"
                channel.variables["sip_destination_url"] = f"sip:{number}@{host}"
        channel.fire("CHANNEL_OUTGOING")
        channel.variables.take(leg.variables)
        if "origination_caller_id_name" not in options and self.order.caller_id_name:
            channel.variables["origination_caller_id_name"] = self.order.caller_id_name
        if "origination_caller_id_number" not in options and self.order.caller_id_number:
            channel.variables["origination_caller_id_number"] = self.order.caller_id_number
        channel.variables["originate_early_media"] = "true" if self._early_ok else "false"
        channel.variables["originate_endpoint"] = leg.endpoint
        if endpoint == "loopback":
            channel.variables["other_loopback_leg_uuid"] = switch.new_uuid()
            channel.variables["loopback_leg"] = "A"
        wanted = channel.get("absolute_codec_string")
        if wanted and endpoint == "sofia" and not any(codec in SPOKEN for codec in codecs(wanted)):
            # the far end speaks none of them: 488 (orig_codec_bad)
            what = (Step(0, "refuse", "INCOMPATIBLE_DESTINATION"),)
        return channel, what

    def _never_was(self, channel: Channel) -> None:
        channel.state, channel.state_number, channel.name = "CS_NONE", 0, "N/A"
        channel.switch.fire_channel("CHANNEL_DESTROY", channel, (), [], profile=False)

    # --- what becomes of the legs

    def _look_soon(self) -> None:
        if not self._over and (self._check_call is None or not self._check_call.active()):
            self._check_call = self.switch.later(FRAME, self._look)

    def _look(self) -> None:
        self._check_call = None
        if self._over:
            return
        for leg in self._legs:
            if leg.up and (leg.answered or (self._early_ok and leg.early)):
                self._won(leg)
                return
        if all(leg.finished or leg.job_first for leg in self._legs):
            self.cause = self._legs[0].cause  # a list fails with the cause of its first leg
            self._next_group()

    def _won(self, leg: Channel) -> None:
        self._over = True
        self._stop_timers()
        leg.watch = None
        self.winner = leg
        self.cause = "SUCCESS"
        self._done(self)

    def _timed_out(self) -> None:
        if not self._over:
            self._give_up("NO_ANSWER")

    def _give_up(self, cause: str) -> None:
        self._over = True
        self._stop_timers()
        self.cause = cause
        legs = [leg for leg in self._legs if leg.up]
        for leg in self._legs:
            leg.watch = None
        # the answer to the command overtakes the end of the legs (orig_timeout)
        for leg in legs:
            leg.originating = False
            leg.hangup(cause, delay=self.switch.faults.after_job(FRAME / 2))
        self._done(self)
        self._release()

    def _progress_timed_out(self) -> None:
        # ringing does not count (measured): only early media and the answer do
        if not self._over and not any(leg.early or leg.answered for leg in self._legs):
            self._give_up("PROGRESS_TIMEOUT")

    def _leg_made_no_progress(self, leg: Channel) -> None:
        if not self._over and leg.up and not (leg.progress or leg.early or leg.answered):
            leg.hangup("PROGRESS_TIMEOUT", delay=0)

    def _leg_timed_out(self, leg: Channel) -> None:
        if not self._over and leg.up and not leg.answered:
            leg.hangup("ALLOTTED_TIMEOUT", delay=0)

    def _fail(self, cause: str) -> None:
        self._over = True
        self._stop_timers()
        self.cause = cause
        self._done(self)
        self._release()

    def _release(self) -> None:
        for leg in self._legs:
            if leg is not self.winner:
                leg.watch = None
                leg.originating = False
                leg.release()
        self._legs = [leg for leg in self._legs if leg is self.winner]

    def _stop_timers(self) -> None:
        for call in (self._check_call, self._timeout, self._progress_timeout):
            if call is not None and call.active():
                call.cancel()


class FarEnd:
    """A party that follows its script."""

    def __init__(self, channel: Channel, what: Script) -> None:
        self._channel = channel
        self._steps = list(what)
        self._next: IDelayedCall | None = None
        channel.on_end = self._stop

    def begin(self) -> None:
        """The call reaches it."""
        self._schedule(
            self._channel.switch.faults.jittered(
                _LOOPBACK if self._channel.endpoint == "loopback" else REACTION
            )
        )

    def _schedule(self, delay: float) -> None:
        if self._steps:
            # not the switch's own timer: a far end goes on when the switch restarts
            self._next = self._channel.switch.clock.callLater(delay + self._steps[0].after, self._act)

    def _act(self) -> None:
        channel, step = self._channel, self._steps.pop(0)
        if step.act == "trying":
            channel.tried = True
        elif step.act == "ring":
            channel.ring()
        elif step.act == "early":
            channel.pre_answer()
        elif step.act == "answer":
            channel.answer()
        elif step.act == "refuse":
            channel.refuse(step.detail)
        elif step.act == "unreachable":
            channel.refuse(step.detail, reached=False)
        elif step.act == "bye":
            channel.bye(step.detail)
        elif step.act in {"talk", "hush", "mute"}:
            channel.hear(step.act)
        elif step.act == "digits":
            channel.switch.receive_digits(channel, step.detail, "RTP")
        if channel.up:
            if self._steps and self._steps[0].after == 0:
                self._act()
            else:
                self._schedule(channel.switch.faults.jittered(0.0))

    def _stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()


def _lose(leg: Channel) -> None:
    """Another leg was quicker (orig_several_comma)."""
    if leg.up:
        leg.variables["group_dial_status"] = "loser"
        leg.hangup("LOSE_RACE")
        leg.variables["call_completed_elsewhere"] = "true"


def _resolve(switch: Switch, endpoint: str, address: str) -> tuple[Script | None, str, str, dict[str, str]]:
    """Find the far end: its script (None: no channel at all), the channel's name, the number, and more about it."""
    if endpoint == "error":
        raise Refused(read_cause(address))
    if endpoint == "user":
        raise Refused("SUBSCRIBER_ABSENT")
    if endpoint == "null":
        return (Step(0, "answer"),), f"null/{address}", address, {}
    if endpoint == "loopback":
        number, _, rest = address.partition("/")
        context = rest.partition("/")[0] or "default"
        return switch.script_of(number), f"loopback/{number}-a", number, {"context": context}
    if endpoint != "sofia":
        raise Refused("CHAN_NOT_IMPLEMENTED")
    profile, _, rest = address.partition("/")
    if profile == "gateway":
        gateway, slash, number = rest.partition("/")
        if not slash or not number:
            raise Refused(_NOWHERE)
        what: Script | None
        if gateway in switch.unknown_gateways:
            return None, "", number, {"cause": "INVALID_GATEWAY"}
        if gateway in switch.gateways:
            behaviour = switch.gateways[gateway]
            what = behaviour(number.partition("@")[0]) if callable(behaviour) else behaviour
        else:
            what = switch.script_of(number.partition("@")[0])
        about = {
            "sip_gateway_name": gateway,
            "sip_local_network_addr": "127.0.0.1",
            "sip_profile_name": "gateway",
            "video_media_flow": "disabled",
            "text_media_flow": "disabled",
        }
        return what, f"sofia/{switch.profile}/{number}", number, about
    if profile in switch.unknown_gateways:
        return None, "", rest, {"cause": "INVALID_PROFILE"}
    rest = rest.removeprefix("sip:")
    user = rest.partition("@")[0]
    about = {
        "sip_local_network_addr": "127.0.0.1",
        "sip_profile_name": profile,
        "video_media_flow": "disabled",
        "text_media_flow": "disabled",
    }
    return switch.script_of(user), f"sofia/{profile}/{rest}", user, about


class Originating:
    """A whole originate: its branches at the same time, the first success is taken (`:_:`)."""

    def __init__(self, switch: Switch, order: Originate, done: Done) -> None:
        self._switch = switch
        self._order = order
        self._answer = done
        self._branches = [Dialling(switch, order, branch, self._branch_done) for branch in order.branches]
        self._left = len(self._branches)
        self._over = False

    def begin(self) -> None:
        """Dial."""
        for branch in self._branches:
            branch.begin()

    def _branch_done(self, branch: Dialling) -> None:
        if self._over:
            return
        self._left -= 1
        if branch.winner is not None:
            self._over = True
            self._success(branch, branch.winner)
        elif self._left == 0:
            self._over = True
            self._answer(f"-ERR {branch.cause}\n")

    def _success(self, branch: Dialling, leg: Channel) -> None:
        for other in self._branches:
            if other is not branch:
                other.cancel("LOSE_RACE")
        losers = branch.hang_up_losers()
        leg.originating = False
        leg.held = False
        order = self._order
        if order.application is not None:
            app, argument = order.application
            leg.flip()
            self._answer(f"+OK {leg.uuid}\n")
            leg.runner.start([(app, argument)])
        else:
            self._answer(f"+OK {leg.uuid}\n")
            todo = self._switch.dialplan(order.target, order.dialplan, order.context)
            leg.transfer(order.target, order.dialplan, order.context)
            leg.route(todo is not None)
            if todo is None:
                leg.hangup("NO_ROUTE_DESTINATION", delay=0)
            else:
                leg.flip()
                leg.runner.start(todo)
        leg.outgoing.serve()
        for loser in losers:
            loser.finish()
        branch.release()
