"""Limits: when the first is reached while the channel is up, and only then, the channel is hung up.

So it is when a client asks for that, and when the script is over.
"""

from collections.abc import Iterator
from operator import itemgetter

from plivotx.commands import At, Command, HangUp
from plivotx.config import Config
from plivotx.policies import Policy
from plivotx.policies.dial_out import RING_CAUSE, TIME_CAUSE, answer_limit
from plivotx.projections.call import Attempt, Call

RINGING_CAUSE = "NO_ANSWER"
SECOND = 1_000_000
"""In microseconds."""


def keep_time(config: Config) -> Policy:
    """The policy, with the longest call that *config* allows."""

    def due(call: Call) -> Iterator[Command]:
        up = call.up
        if up is None:
            return
        cause = _cause(call)
        if cause:
            yield HangUp(stream=call.uuid, channel=up.channel, switch=up.switch, cause=cause)
        if call.limits or call.hangup:
            return
        limits = list(_limits(call, up, config))
        if limits:  # none but the first can be reached
            when, limit, cause = min(limits, key=itemgetter(0))
            yield At(stream=call.uuid, switch=up.switch, when=when, limit=limit, cause=cause)

    return due


def _limits(call: Call, up: Attempt, config: Config) -> Iterator[tuple[int, str, str]]:
    """Each limit of the channel that is up: when it is reached on the clock of its switch, its name and its cause."""
    from_ring = call.request.hangup_on_ring
    if from_ring is not None and up.rang_at:
        yield up.rang_at + from_ring * SECOND, "HangupOnRing", RING_CAUSE
    if call.request.early_digits and up.rang_at and not up.answered_at:
        # the switch's own time-out ended with the early media
        timeout = call.gateways[up.number - 1].timeout
        yield (up.created_at or up.rang_at) + timeout * SECOND, "GatewayTimeouts", RINGING_CAUSE
    if up.answered_at:
        yield up.answered_at + answer_limit(call, config) * SECOND, "TimeLimit", TIME_CAUSE


def _cause(call: Call) -> str:
    """With which cause the channel is to be hung up now; empty if it is not."""
    if call.limits:
        return call.limits[0].cause
    if call.script.end:
        return call.script.end.cause
    return call.hangup.cause if call.hangup else ""
