"""From the queries of `GET /v0.1/Calls/` and one call to what is wanted, and from rows to what is shown."""

import datetime as dt
import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from plivotx.events import Column
from plivotx.log.interface import Cursor, Row, Wanted
from plivotx.projections.record import LAST_SECOND, iso, seconds_between, switch_time
from plivotx.rest.forms import BadForm, bad
from plivotx.states import STATES

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


def once(pairs: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, str]:
    """Parameters by name, without the empty ones; raises BadForm for one that is unknown or comes twice."""
    known = tuple(known)
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise BadForm(f"{name[:80]!a} is no parameter of this request (there are: {', '.join(known)})")
        if name in found:
            raise bad(name, value, "comes twice")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def calls_wanted(pairs: Iterable[tuple[str, str]]) -> tuple[Wanted, int]:
    """What the query asks for, and how many rows at most.

    Raises BadForm with a sentence that names the parameter and shows the value.
    """
    given = once(pairs, (*_COLUMNS, *_OTHERS))
    where: dict[str, Column | tuple[Column, ...]] = {}
    for name, value in given.items():
        if name in _COLUMNS:
            column, understand = _COLUMNS[name]
            where[column] = understand(name, value)
    wanted = Wanted(
        where=where,
        open_only=given.get("State", "closed") != "closed",  # all others are, which spares looking at those
        undelivered_only=_true(given, "Undelivered"),
        opened_from=_moment(given, "Since"),
        opened_until=_moment(given, "Until"),
        after=_cursor(given, "After"),
    )
    return wanted, _limit(given, "Limit")


def record_wanted(pairs: Iterable[tuple[str, str]], latest: int) -> int | None:
    """The version after which the events of a call are asked for; None for the whole record.

    *latest* is the version of its last event.  Raises BadForm as `calls_wanted` does.
    """
    given = once(pairs, ("After",))
    value = given.get("After")
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise bad("After", value, "is no version, which is an integer from 0")
    if int(value) > latest:
        raise bad("After", value, f"is beyond the latest version of the call, {latest}")
    return int(value)


def cursor_text(cursor: Cursor) -> str:
    """The text by which a client continues a list."""
    return urlsafe_b64encode(json.dumps(cursor).encode()).decode("ascii").rstrip("=")


def shown(row: Row) -> dict[str, Any]:
    """A row as the list shows it; the times are those of a record (`plivotx.projections.record`)."""
    columns = row.columns
    rang_at, answered_at, ended_at = (
        _number(columns[name]) for name in ("rang_at", "answered_at", "ended_at")
    )
    return {
        "RequestUUID": row.stream,
        "State": columns["state"],
        "Direction": "outbound",
        "From": columns["from_number"],
        "To": columns["to_number"],
        "AccountSID": columns["account_sid"],
        "Switch": columns["switch"],
        "Gateway": columns["gateway"],
        "Attempt": columns["attempt"],
        "CallUUID": columns["call_uuid"] or None,
        "Created": iso(row.opened),
        "Changed": iso(row.changed),
        "RingTime": switch_time(rang_at),
        "AnswerTime": switch_time(answered_at),
        "EndTime": switch_time(ended_at),
        "BillDuration": seconds_between(answered_at, ended_at),
        "HangupCause": columns["cause"],
        "Undelivered": columns["undelivered"],
    }


def _number(value: Column) -> int:
    return value if isinstance(value, int) else 0


def _text(name: str, value: str) -> str:
    if "\0" in value:
        raise bad(name, value, "holds NUL")
    return value


def _state(name: str, value: str) -> str:
    if value not in STATES:
        raise bad(name, value, f"is none of {', '.join(STATES)}")
    return value


def _telephone(name: str, value: str) -> tuple[Column, ...]:
    """With and without a leading ``+``, which a query that was not encoded has as a blank."""
    bare = _text(name, value).lstrip(" +")
    return bare, f"+{bare}"


def _true(given: Mapping[str, str], name: str) -> bool:
    if given.get(name, "false") not in ("true", "false"):
        raise bad(name, given[name], "is neither true nor false")
    return given.get(name) == "true"


def _moment(given: Mapping[str, str], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value):
        at = float(value)
    else:
        at = _iso(value)
    if not 0 <= at <= LAST_SECOND:
        raise bad(name, value, "is no time: neither ISO 8601 nor seconds since 1970")
    return at


def _iso(value: str) -> float:
    """Seconds of the epoch; -1 if it is no time.  One without a zone is UTC."""
    # The + before a zone is a blank in a query that was not encoded.
    for text in (value, re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", value)):
        try:
            moment = dt.datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
        except (ValueError, OverflowError):
            continue
    return -1.0


def _limit(given: Mapping[str, str], name: str) -> int:
    value = given.get(name, str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,6}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise bad(name, value, f"is no integer from 1 to {MAX_LIMIT}")
    return int(value)


def _cursor(given: Mapping[str, str], name: str) -> Cursor | None:
    value = given.get(name)
    if value is None:
        return None
    try:
        padded = value.encode("ascii") + b"=" * (-len(value) % 4)
        opened, stream = json.loads(urlsafe_b64decode(padded))
        cursor = float(opened), str(stream)
        stream.encode()  # no half characters, which no log could look for
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        cursor = None
    if cursor is None or not math.isfinite(cursor[0]) or "\0" in cursor[1] or cursor_text(cursor) != value:
        raise bad(name, value, "is not what an answer had as Next")
    return cursor


_COLUMNS: dict[str, tuple[str, Callable[[str, str], Column | tuple[Column, ...]]]] = {
    "State": ("state", _state),
    "From": ("from_number", _telephone),
    "To": ("to_number", _telephone),
    "AccountSID": ("account_sid", _text),
    "Gateway": ("gateway", _text),
    "HangupCause": ("cause", _text),
    "CallUUID": ("call_uuid", _text),
}
"""Parameters that a column must equal."""
_OTHERS = ("Since", "Until", "Undelivered", "Limit", "After")
