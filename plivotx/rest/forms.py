"""From the fields of a form to the event that records the request.  Pure."""

import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

from plivotx import urls
from plivotx.events import CallRequested, Gateway, Pairs

MAX_TEXT = 256
MAX_GATEWAYS = 32
MAX_LIST = MAX_GATEWAYS * (MAX_TEXT + 1)
"""Characters."""
MAX_SECONDS = 10_000_000
"""Limits beyond 115 days are a mistake of the client."""
MAX_TIMEOUT = 3600
"""Seconds; nobody lets a telephone ring for longer."""
MAX_TRIES = 100
"""Attempts of one call, over all its gateways."""
MAX_EXTRA = 4096
"""Characters of ExtraDialString."""
MAX_DIGITS = 99
"""Characters of SendDigits; FreeSWITCH ignores a longer string as a whole."""
DIGIT_MS = range(51, 24_001)
"""Milliseconds that one digit may last; FreeSWITCH ignores or cuts what is outside."""

MANDATORY = ("From", "To", "Gateways", "AnswerUrl")

PARAMETERS = (
    *MANDATORY,
    "HangupUrl",
    "RingUrl",
    "CallerName",
    "GatewayCodecs",
    "GatewayTimeouts",
    "GatewayRetries",
    "ExtraDialString",
    "SendDigits",
    "SendOnPreanswer",
    "TimeLimit",
    "HangupOnRing",
    "AccountSID",
)

_BY_LOWER_CASE = {each.lower(): each for each in PARAMETERS}
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile("[0-9]{1,10}")
_DIGITS = re.compile("[0-9A-D*#wW]+(?:@([0-9]{1,6}))?")

Check = Callable[[CallRequested], None]
"""Raises ValueError, with the name of the parameter, if the call cannot be dialled exactly as asked."""


class BadForm(Exception):
    """The request lacks a parameter or has one that cannot be used.  The client's fault; answered at once."""


def bad(name: str, value: str, why: str) -> BadForm:
    """The complaint about one parameter: its name, its value as it can stand in a log line, and the reason."""
    return BadForm(f"{name} is not Valid: {_shown(value)} {why}")


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:77] + "...")


def misspelt(fields: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names of *fields* that mean nothing, each with the parameter that differs from it only in case."""
    meant = {name: _BY_LOWER_CASE.get(name.lower(), name) for name in fields}
    return [(name, parameter) for name, parameter in meant.items() if name != parameter]


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
    event = CallRequested(
        request_uuid=request_uuid,
        from_number=_text(fields, "From"),
        to_number=_text(fields, "To"),
        gateways=_gateways(fields),
        answer_url=answer_url,
        hangup_url=hangup_url,
        ring_url=ring_url,
        caller_name=_text(fields, "CallerName"),
        time_limit=_seconds(fields, "TimeLimit", at_least=1),
        hangup_on_ring=_seconds(fields, "HangupOnRing", at_least=0),
        account_sid=_text(fields, "AccountSID"),
        variables=_variables(fields, "ExtraDialString"),
        send_digits=_digits(fields, "SendDigits"),
        send_on_preanswer=_flag(fields, "SendOnPreanswer"),
    )
    try:
        check(event)
    except ValueError as error:
        name, _, why = str(error).partition(" ")
        raise (_bad(fields, name, why) if name in fields else BadForm(str(error))) from None
    return event


def hangup_wanted(fields: Mapping[str, str]) -> tuple[str, str]:
    """RequestUUID and CallUUID of `POST /v0.1/HangupCall/`, one of them empty.  Raises BadForm."""
    request_uuid, call_uuid = fields.get("RequestUUID", ""), fields.get("CallUUID", "")
    if not (request_uuid or call_uuid):
        raise BadForm("CallUUID or RequestUUID Parameter must be present")
    if request_uuid and call_uuid:
        raise BadForm("Both CallUUID and RequestUUID Parameters cannot be present")
    return request_uuid, call_uuid


def _text(fields: Mapping[str, str], name: str, longest: int = MAX_TEXT) -> str:
    value = fields.get(name, "")
    if len(value) > longest:
        raise _bad(fields, name, f"is longer than {longest} characters")
    if "\0" in value:
        raise _bad(fields, name, "holds NUL")
    if not value.isascii() and _SURROGATE.search(value):
        raise _bad(fields, name, "holds half a character (a lone surrogate)")
    return value


def _url(fields: Mapping[str, str], name: str) -> str:
    """A URL that can be requested exactly as it stands; empty if it was not given."""
    value = fields.get(name, "")
    if not value:
        return ""
    why = urls.complaint(value)
    if why:
        raise _bad(fields, name, why)
    return value


def _gateways(fields: Mapping[str, str]) -> tuple[Gateway, ...]:
    """The entries of Gateways, each with its own of the other lists; what these lack is the default."""
    prefixes = _list(fields, "Gateways")
    if len(prefixes) > MAX_GATEWAYS:
        raise _bad(fields, "Gateways", f"has more than {MAX_GATEWAYS} entries")
    if not all(prefixes):
        raise _bad(fields, "Gateways", "has an empty entry")
    timeouts = _numbers(fields, "GatewayTimeouts", MAX_TIMEOUT)
    tries = _numbers(fields, "GatewayRetries", MAX_TRIES)
    codecs = _list(fields, "GatewayCodecs")
    gateways = []
    for prefix, timeout, times, listed in zip_longest(prefixes, timeouts, tries, codecs):
        if prefix is None:
            break  # surplus entries of the other lists have no gateway
        given: dict[str, Any] = {"timeout": timeout, "tries": times, "codecs": listed}
        gateways.append(Gateway(prefix, **{name: value for name, value in given.items() if value}))
    if sum(each.tries for each in gateways) > MAX_TRIES:
        raise _bad(fields, "GatewayRetries", f"makes more than {MAX_TRIES} attempts")
    return tuple(gateways)


def _list(fields: Mapping[str, str], name: str) -> list[str]:
    """The entries of a comma list, without outer blanks; one in quotes may hold commas (``'PCMA,PCMU'``)."""
    text = _text(fields, name, MAX_LIST)
    if "'" not in text and '"' not in text:
        return [each.strip() for each in text.split(",")]
    entries = [""]
    quote = ""
    for character in text:
        if quote:
            if character == quote:
                quote = ""
            else:
                entries[-1] += character
        elif character in "'\"" and name == "GatewayCodecs":
            quote = character
        elif character == ",":
            entries.append("")
        else:
            entries[-1] += character
    if quote:
        raise _bad(fields, name, f"has a {quote} without its partner")
    return [each.strip() for each in entries]


def _numbers(fields: Mapping[str, str], name: str, most: int) -> list[int | None]:
    """The entries of a list of numbers; an empty one is None."""
    entries = _list(fields, name)
    for each in entries:
        if each and not (_NUMBER.fullmatch(each) and 1 <= int(each) <= most):
            raise _bad(fields, name, f"has the entry {_shown(each)}, which is no integer from 1 to {most}")
    return [int(each) if each else None for each in entries]


def _digits(fields: Mapping[str, str], name: str) -> str:
    value = _text(fields, name)
    if not value:
        return ""
    found = _DIGITS.fullmatch(value)
    if not found:
        raise _bad(fields, name, "may hold only 0-9 A-D * # w W, and @ with milliseconds at the end")
    if len(value) > MAX_DIGITS:
        raise _bad(fields, name, f"is longer than {MAX_DIGITS} characters")
    if found[1] and int(found[1]) not in DIGIT_MS:
        raise _bad(fields, name, f"has a length outside {DIGIT_MS[0]} to {DIGIT_MS[-1]} ms")
    return value


def _flag(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "")
    if value.lower() not in ("", "true", "false"):
        raise _bad(fields, name, "is neither true nor false")
    return value.lower() == "true"


def _variables(fields: Mapping[str, str], name: str) -> Pairs:
    """The pairs of ``name=value,...``.

    A value may stand in single quotes, and a backslash makes a comma, a quote or a backslash an ordinary
    character, as in FreeSWITCH's own dial strings.
    """
    text = _text(fields, name, MAX_EXTRA)
    if not text:
        return ()
    pieces = [""]
    quoted = False
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            pieces[-1] += following if following and following in ",'\\" else character + following
        elif character == "'":
            quoted = not quoted
        elif character == "," and not quoted:
            pieces.append("")
        else:
            pieces[-1] += character
    if quoted:
        raise _bad(fields, name, "has a ' without its partner")
    pairs = []
    for piece in filter(str.strip, pieces):
        variable, equals, value = piece.partition("=")
        if not equals:
            raise _bad(fields, name, f"has the entry {_shown(piece)}, which is no name=value")
        pairs.append((variable.strip(), value.strip()))
    return tuple(pairs)


def _seconds(fields: Mapping[str, str], name: str, at_least: int) -> int | None:
    value = fields.get(name, "")
    if not value:
        return None
    if not _NUMBER.fullmatch(value) or not at_least <= int(value) <= MAX_SECONDS:
        raise _bad(fields, name, f"is no integer from {at_least} to {MAX_SECONDS} (seconds)")
    return int(value)


def _bad(fields: Mapping[str, str], name: str, why: str) -> BadForm:
    return bad(name, fields[name], why)
