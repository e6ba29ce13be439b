"""From the fields of a form to the event that records the request.  Pure."""

import ipaddress
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
        name, _, why = str(error).partition(" ")
        raise (_bad(fields, name, why) if name in fields else BadForm(str(error))) from None
    return event


def _text(fields: Mapping[str, str], name: str, longest: int = MAX_TEXT) -> str:
    value = fields.get(name, "")
    if len(value) > longest:
        raise _bad(fields, name, f"is longer than {longest} characters")
    if "\0" in value:
        raise _bad(fields, name, "holds NUL")
    if re.search("[\ud800-\udfff]", value):
        raise _bad(fields, name, "holds half a character (a lone surrogate)")
    return value


def _url(fields: Mapping[str, str], name: str) -> str:
    """A URL that can be requested exactly as it stands; empty if it was not given."""
    value = fields.get(name, "")
    if not value:
        return ""
    if len(value) > MAX_URL:
        raise _bad(fields, name, f"is longer than {MAX_URL} characters")
    if not value.startswith(("http://", "https://")):
        raise _bad(fields, name, "does not begin with http:// or https://")
    if not re.fullmatch(r"[!-~]+", value):
        raise _bad(fields, name, "holds a blank, a control character or one beyond ASCII; percent-encode it")
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        raise _bad(fields, name, "holds a % that encodes nothing")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise _bad(fields, name, f"is no URL: {error}") from None
    if "@" in parts.netloc:
        raise _bad(fields, name, "holds credentials, which are not sent")
    if port == 0 or parts.netloc.endswith(":"):
        raise _bad(fields, name, "has a port that is none")
    if not _HOST.fullmatch(parts.hostname or "") and not _is_ipv6(parts.netloc):
        raise _bad(fields, name, "does not name a host")
    return value


_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
"""What a host name may be; Twisted can't look up one with an underscore."""


def _is_ipv6(netloc: str) -> bool:
    found = re.fullmatch(r"\[([^]]*)\](?::[0-9]+)?", netloc)
    try:
        return bool(found and ipaddress.IPv6Address(found[1]).scope_id is None)
    except ValueError:
        return False


def _gateways(fields: Mapping[str, str]) -> tuple[Gateway, ...]:
    prefixes = _text(fields, "Gateways", MAX_LIST).split(",")
    if len(prefixes) > MAX_GATEWAYS:
        raise _bad(fields, "Gateways", f"has more than {MAX_GATEWAYS} entries")
    if len(prefixes) > 1:
        raise _bad(fields, "Gateways", "names several gateways, which is not supported yet")
    return tuple(Gateway(prefix=each) for each in prefixes)


def _seconds(fields: Mapping[str, str], name: str, at_least: int) -> int | None:
    value = fields.get(name, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", value) or not at_least <= int(value) <= MAX_SECONDS:
        raise _bad(fields, name, f"is no integer from {at_least} to {MAX_SECONDS} (seconds)")
    return int(value)


def _bad(fields: Mapping[str, str], name: str, why: str) -> BadForm:
    """The complaint about one field: its name, its value as it can stand in a log line, and the reason."""
    value = fields[name]
    shown = value if len(value) <= 80 else value[:77] + "..."
    return BadForm(f"{name} is not Valid: {shown!a} {why}")
