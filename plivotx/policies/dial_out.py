"""Dial: one attempt after the other until one rings, gives early media or answers; then the end.

After that there is no further attempt, whatever the cause.  Before it every cause leads to the next one, but
for those that the operator lets end the search (`GatewayRules.stop_causes`).  Nor is there a further attempt
once a client asked for the end, nor after one whose outcome was missed: it may have rung, and nobody is to
be rung twice.
"""

from collections.abc import Iterator

from plivotx.commands import Command, Decide, Originate, Watch
from plivotx.config import Config
from plivotx.events import AttemptFailed, CallEnded, Gateway
from plivotx.policies import Policy
from plivotx.projections.call import Attempt, Call, channel_uuid

RING_CAUSE = "ORIGINATOR_CANCEL"
TIME_CAUSE = "ALLOTTED_TIMEOUT"


def answer_limit(call: Call, config: Config) -> int:
    """Seconds from the answer after which the call is hung up, whether the client set a limit or not."""
    wanted = call.request.time_limit
    return config.max_call_duration if wanted is None else min(wanted, config.max_call_duration)


def originate(call: Call, number: int, config: Config) -> Originate:
    """The command that makes attempt *number* (from 1) of a call."""
    request = call.request
    gateway = call.gateways[number - 1]
    ring = None
    if request.hangup_on_ring is not None:
        ring = (request.hangup_on_ring + config.backstop_margin, RING_CAUSE)
    return Originate(
        stream=call.uuid,
        number=number,
        gateway=gateway,
        channel=channel_uuid(call.uuid, "A", number),
        to_number=request.to_number,
        caller_id_number=request.from_number,
        caller_id_name=request.caller_name,
        ring_backstop=ring,
        answer_backstop=(answer_limit(call, config) + config.backstop_margin, TIME_CAUSE),
        progress_timeout=config.rules(gateway.prefix).progress_timeout,
        send_digits=request.send_digits,
        early_digits=request.early_digits,
        early_margin=config.backstop_margin,
        variables=request.variables,
        allowed=tuple(name for name, _ in request.variables if config.may_set(name)),
    )


def dial_out(config: Config) -> Policy:
    """The policy, with the backstops that *config* asks for."""

    def due(call: Call) -> Iterator[Command]:
        latest = call.attempt
        if call.ended:
            return
        if latest is None or latest.failed:
            if call.hangup:
                yield Decide(stream=call.uuid, event=CallEnded(cause=call.hangup.cause))
            elif _following(call) and not _stopped(call, config):
                yield originate(call, len(call.attempts) + 1, config)
            else:
                yield Decide(stream=call.uuid, event=CallEnded(cause=latest.cause if latest else "NONE"))
        elif not latest.over:
            limit = answer_limit(call, config)
            yield Watch(
                stream=call.uuid,
                channel=latest.channel,
                switch=latest.switch,
                core=latest.core,
                backstop=limit + config.backstop_margin,
                cause=TIME_CAUSE,
            )
        elif latest.progressed or _missed(latest):
            yield Decide(
                stream=call.uuid,
                event=CallEnded(
                    cause=latest.cause,
                    call_uuid=latest.channel if latest.progressed else "",
                    at=latest.end.at if latest.end else 0,
                ),
            )
        else:
            yield Decide(
                stream=call.uuid,
                event=AttemptFailed(
                    channel=latest.channel, cause=latest.cause, why=_why(call, latest, config)
                ),
            )

    return due


def _missed(attempt: Attempt) -> bool:
    """Whether the end left no trace, so that nobody can say that it did not ring.

    What a channel leaves behind on the switch is a trace: it says whether it had rung.
    """
    return attempt.end is not None and attempt.end.found not in ("event", "kept")


def _following(call: Call) -> list[Gateway]:
    """What may still be tried, in order."""
    return call.gateways[len(call.attempts) :]


def _stopped(call: Call, config: Config) -> bool:
    """Whether the latest attempt failed with a cause that ends the search."""
    latest = call.attempt
    return latest is not None and latest.cause in config.rules(latest.gateway).stop_causes


def _why(call: Call, attempt: Attempt, config: Config) -> str:
    """Why the attempt counts as failed, and what follows from it."""
    end = attempt.end
    if not attempt.dialled:
        came = f"it was not dialled: {attempt.job_failed}"
    elif end is None:
        came = f"FreeSWITCH could not originate it: {attempt.job_failed}"
    elif end.sip_code:
        came = f"it ended with {end.cause} (SIP {end.sip_code}) before it rang"
    else:
        came = f"it ended with {end.cause} before it rang"
    following = _following(call)
    if call.hangup:
        return f"{came}; no other gateway is tried, for the call is to be hung up"
    if _stopped(call, config):
        return f"{came}; after this cause no other gateway is tried (stop_causes of {attempt.gateway})"
    if not following:
        return f"{came}; no gateway is left"
    if following[0].prefix == attempt.gateway:
        return f"{came}; {attempt.gateway} is tried again"
    return f"{came}; {following[0].prefix} is tried next"
