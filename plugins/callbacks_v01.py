"""What the application is told, in the words of the v0.1 API: RingUrl, AnswerUrl, HangupUrl."""

from collections.abc import Iterable

from plivotx.config import Config
from plivotx.events import CallbackOwed, Pairs
from plivotx.hookspecs import hookimpl
from plivotx.projections.call import Call


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


@hookimpl
def callbacks(call: Call, config: Config) -> Iterable[CallbackOwed]:
    """Ring once at the first ringing or early media; hangup once at the end."""
    rang = next((each for each in call.attempts if each.rang_at), None)
    if rang and call.request.ring_url:
        yield CallbackOwed(
            key="ring",
            url=call.request.ring_url,
            method=config.default_http_method,
            params=(*_who(call), ("CallUUID", rang.channel), ("CallStatus", "ringing")),
        )
    if call.ended:
        channel = call.ended.call_uuid
        yield CallbackOwed(
            key="hangup",
            url=call.request.hangup_url,
            method=config.default_http_method,
            params=(
                *_who(call),
                ("CallUUID", channel),
                ("CallStatus", "completed"),
                ("HangupCause", call.ended.cause),
                *((("ALegUUID", channel), ("ALegRequestUUID", call.uuid)) if channel else ()),
            ),
        )


@hookimpl
def session(call: Call) -> Pairs:
    """The parameters of the request for AnswerUrl's document."""
    channel = call.attempt.channel if call.attempt else ""
    return (
        *_who(call),
        ("CallUUID", channel),
        ("CallStatus", "in-progress"),
        ("CallerName", call.request.caller_name),
        ("ALegUUID", channel),
        ("ALegRequestUUID", call.uuid),
    )
