"""How the gateways have been doing of late: which of them keep failing.

A gateway is known by its dial-string prefix.  What counts against it is an attempt that ended for a reason
of its own or of the path behind it; a far end that is busy, does not exist or rejects the call speaks for it,
since it was reached.  An attempt that was never dialled, as no switch was connected, says nothing of it.
Nothing of this is kept over a restart.
"""

import msgspec

from plivotx.events import AttemptFailed, ChannelAnswered, ChannelRang, Event
from plivotx.projections.call import Call

OWN_FAULTS = frozenset(
    {
        "CHAN_NOT_IMPLEMENTED",
        "DESTINATION_OUT_OF_ORDER",
        "EXCHANGE_ROUTING_ERROR",
        "GATEWAY_DOWN",
        "INVALID_GATEWAY",
        "INVALID_PROFILE",
        "INVALID_URL",
        "NETWORK_OUT_OF_ORDER",
        "NORMAL_CIRCUIT_CONGESTION",
        "NORMAL_TEMPORARY_FAILURE",
        "NO_ANSWER",  # of an attempt that never rang: the time-out passed without a sign of the far end
        "NO_ROUTE_TRANSIT_NET",
        "PROGRESS_TIMEOUT",
        "PROTOCOL_ERROR",
        "RECOVERY_ON_TIMER_EXPIRE",
        "REQUESTED_CHAN_UNAVAIL",
        "SERVICE_NOT_IMPLEMENTED",
        "SERVICE_UNAVAILABLE",
        "SWITCH_CONGESTION",
    }
)
"""Hangup causes that speak of the gateway, not of the far end."""


_TELLING = (ChannelRang, ChannelAnswered, AttemptFailed)
"""The events that say how a gateway is doing."""
MOST = 1000
"""Failing gateways that are remembered; of more the one that has not been tried for the longest is forgotten."""


class _Standing(msgspec.Struct):
    failures: int = 0
    """In a row."""
    since: float = 0.0
    """When the latest of them was."""


class Gateways:
    """The standing of each gateway.  Written by the engine alone."""

    def __init__(self) -> None:
        self._standings: dict[str, _Standing] = {}

    def apply(self, call: Call, event: Event, now: float) -> None:
        """Learn what *event* of *call* tells about gateways; *now* is the engine's clock, seconds."""
        if not isinstance(event, _TELLING):
            return
        attempt = next((each for each in call.attempts if each.channel == event.channel), None)
        if attempt is None or not attempt.dialled:
            return
        gateway = attempt.gateway
        if not isinstance(event, AttemptFailed) or event.cause not in OWN_FAULTS:
            self._standings.pop(gateway, None)
        else:
            standing = self._standings.pop(gateway, None) or _Standing()
            standing.failures += 1
            standing.since = now
            self._standings[gateway] = standing  # the latest last
            if len(self._standings) > MOST:
                del self._standings[next(iter(self._standings))]

    def failures(self, prefix: str) -> tuple[int, float]:
        """How often in a row the gateway has failed, and when last, on the engine's clock."""
        standing = self._standings.get(prefix)
        return (standing.failures, standing.since) if standing else (0, 0.0)
