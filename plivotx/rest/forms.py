"""From the fields of a form to the event that records the request.  Pure."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from plivotx.events import CallRequested, Gateway

MAX_URL = 2048
MAX_TEXT = 256
MAX_GATEWAYS = 32
MAX_LIST = MAX_GATEWAYS * (MAX_TEXT + 1)
"""Characters."""
MAX_SECONDS = 10_000_000
"""Limits beyond 115 days are a mistake of the client."""

MANDATORY = ("From", "To", "Gateways", "AnswerUrl")
NOT_YET = (
    "CallerName",
    "GatewayCodecs",
    "GatewayTimeouts",
    "GatewayRetries",
    "ExtraDialString",
    "SendDigits",
    "SendOnPreanswer",
)
"""Parameters of the API that would change the call and are not there yet: refused, never ignored."""

Check = Callable[[CallRequested], None]
"""Raises ValueError, with the name of the parameter, if the call cannot be dialled exactly as asked."""


class BadForm(Exception):
    """The request lacks a parameter or has one that cannot be used.  The client's fault; answered at once."""


def call_requested(fields: Mapping[str, str], request_uuid: str, check: Check) -> CallRequested:
    """The event for `POST /v0.1/Call/` with these *fields*.

    Raises BadForm with a sentence that names the parameter and shows the value.
    """
    missing = [name for name in MANDATORY if not fields.get(name)]
    if missing:
        raise BadForm(f"Mandatory Parameters Missing: {', '.join(missing)}")
    answer_url = _url(fields, "AnswerUrl")
    hangup_url = _url(fields, "HangupUrl") or answer_url
    ring_url = _url(fields, "RingUrl")
    for name in NOT_YET:
        if fields.get(name):
            raise BadForm(f"{name} is not supported yet")
    event = CallRequested(
        request_uuid=request_uuid,
        from_number=_text(fields, "From"),
        to_number=_text(fields, "To"),
        gateways=_gateways(fields),
        answer_url=answer_url,
        hangup_url=hangup_url,
        ring_url=ring_url,
        time_limit=_seconds(fields, "TimeLimit", at_least=1),
        hangup_on_ring=_seconds(fields, "HangupOnRing", at_least=0),
        account_sid=_text(fields, "AccountSID"),
    )
    try:
        check(event)
    except ValueError as error:
        raise BadForm(_with_value(str(error), fields)) from None
    return event


def _text(fields: Mapping[str, str], name: str, longest: int = MAX_TEXT) -> str:
    value = fields.get(name, "")
    if len(value) > longest:
        raise BadForm(f"{name} is not Valid: longer than {longest} characters")
    if "\0" in value:
        raise BadForm(f"{name} is not Valid: {_shown(value)} holds NUL")
    return value


def _url(fields: Mapping[str, str], name: str) -> str:
    """A URL that can be requested exactly as it stands; empty if it was not given."""
    value = fields.get(name, "")
    if not value:
        return ""
    if len(value) > MAX_URL:
        raise BadForm(f"{name} is not Valid: longer than {MAX_URL} characters")

    def refuse(why: str) -> BadForm:
        return BadForm(f"{name} is not Valid: {_shown(value)} {why}")

    if not value.startswith(("http://", "https://")):
        raise refuse("does not begin with http:// or https://")
    if not re.fullmatch(r"[!-~]+", value):
        raise refuse("holds a blank, a control character or one beyond ASCII; percent-encode it")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise refuse(f"is no URL: {error}") from None
    if not parts.hostname or port == 0:
        raise refuse("names no host")
    if parts.username is not None or parts.password is not None:
        raise refuse("holds credentials, which are not sent")
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", parts.hostname):
        raise refuse("has a host name with characters that no host name has")
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        raise refuse("holds a % that encodes nothing")
    return value


def _gateways(fields: Mapping[str, str]) -> tuple[Gateway, ...]:
    text = _text(fields, "Gateways", MAX_LIST)
    prefixes = text.split(",")
    if len(prefixes) > MAX_GATEWAYS:
        raise BadForm(f"Gateways is not Valid: more than {MAX_GATEWAYS} entries")
    if len(prefixes) > 1:
        raise BadForm("Gateways is not Valid: several gateways are not supported yet")
    return tuple(Gateway(prefix=each) for each in prefixes)


def _seconds(fields: Mapping[str, str], name: str, at_least: int) -> int | None:
    value = fields.get(name, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", value) or not at_least <= int(value) <= MAX_SECONDS:
        raise BadForm(
            f"{name} is not Valid: {_shown(value)} is no integer from {at_least} to {MAX_SECONDS} (seconds)"
        )
    return int(value)


def _with_value(complaint: str, fields: Mapping[str, str]) -> str:
    name, _, why = complaint.partition(" ")
    return f"{name} is not Valid: {_shown(fields[name])} {why}" if name in fields else complaint


def _shown(value: str) -> str:
    """The value as it can stand in a message and in a log line."""
    return ascii(value if len(value) <= 80 else value[:77] + "...")
