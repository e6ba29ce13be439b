"""What the application is told, in the words of the v0.1 API: RingUrl, AnswerUrl, HangupUrl.

Which parameter goes with which request, and when it is absent, is part of the API: old applications look.
"""

from collections.abc import Iterable

from plivotx.config import Config
from plivotx.events import CallbackOwed, ChannelEnded, ChannelRang, Pairs
from plivotx.hookspecs import hookimpl
from plivotx.projections.call import Call, derived_uuid


def _who(call: Call) -> Pairs:
    """Numbers without their leading ``+``, as the documentation of the API has them."""
    request = call.request
    return (
        ("To", request.to_number.lstrip("+")),
        ("From", request.from_number.lstrip("+")),
        ("Direction", "outbound"),
        ("RequestUUID", call.uuid),
        *((("AccountSID", request.account_sid),) if request.account_sid else ()),
    )


def _scheduled_hangup(call: Call) -> Pairs:
    """The name of the hangup that TimeLimit has scheduled."""
    if call.request.time_limit is None:
        return ()
    return (("ScheduledHangupId", derived_uuid(call.uuid, "TimeLimit")),)


def _forwarded_from(call: Call) -> Pairs:
    """The number in the SIP header Diversion, if the client had one sent."""
    for name, value in call.request.variables:
        number, at, _ = value.partition(":")[2].partition("@")
        if name.lower() == "sip_h_diversion" and at:
            return (("ForwardedFrom", number.lstrip("+")),)
    return ()


def _extra(event: ChannelRang | ChannelEnded | None, config: Config) -> Pairs:
    """What the configuration wants to be told of the channel; empty values where nobody saw the channel."""
    return (event.variables if event else ()) or tuple((each, "") for each in config.extra_fs_vars)


def _with_extra(ours: Pairs, extra: Pairs) -> Pairs:
    """Both; where they share a name it is ours that is told."""
    names = {name for name, _ in ours}
    return (*ours, *(pair for pair in extra if pair[0] not in names))


@hookimpl
def callbacks(call: Call, config: Config) -> Iterable[CallbackOwed]:
    """Ring once at the first ringing or early media; hangup once at the end."""
    known = [each.what.key for each in call.owed]
    rang = None
    if call.request.ring_url and "ring" not in known:
        rang = next((each for each in call.attempts if each.rang_at), None)
    if rang:
        ours = (*_who(call), ("CallUUID", rang.channel), ("CallStatus", "ringing"))
        yield CallbackOwed(
            key="ring",
            url=call.request.ring_url,
            method=config.default_http_method,
            params=_with_extra(ours, _extra(rang.ring, config)),
        )
    if call.ended and "hangup" not in known:
        yield CallbackOwed(
            key="hangup",
            url=call.request.hangup_url,
            method=config.default_http_method,
            params=_hangup(call, config),
        )


def _hangup(call: Call, config: Config) -> Pairs:
    assert call.ended is not None
    channel, last = call.ended.call_uuid, call.attempt
    ours = (
        *_who(call),
        ("CallUUID", channel),
        ("CallStatus", "completed"),
        ("HangupCause", call.ended.cause),
    )
    if channel:
        ours += (("ALegUUID", channel), ("ALegRequestUUID", call.uuid), *_forwarded_from(call))
        if last and not last.answered_at:
            ours += _scheduled_hangup(call)
    return _with_extra(ours, _extra(last.end if last else None, config))


@hookimpl
def session(call: Call) -> Pairs:
    """The parameters of each request for a document, and of what verbs tell."""
    latest = call.attempt
    channel = latest.channel if latest else ""
    over = call.ended or (latest.end if latest else None)
    ours = (
        *_who(call),
        ("CallUUID", channel),
        ("CallStatus", "completed" if over else "in-progress"),
        ("CallerName", call.request.caller_name),
        ("ALegUUID", channel),
        ("ALegRequestUUID", call.uuid),
        *_scheduled_hangup(call),
        *_forwarded_from(call),
        *((("HangupCause", over.cause),) if over else ()),
    )
    asking_first = call.script.number == 1 and call.script.body is None
    answer = latest.answer if latest and asking_first else None
    return _with_extra(ours, answer.variables if answer else ())
