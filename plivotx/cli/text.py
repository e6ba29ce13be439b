"""What the command-line client prints of calls: a table that fits, a record, a line of a timeline.  Pure.

Whatever comes from a server is shown without control characters: it must not steer a terminal.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import combining, east_asian_width

import msgspec

from plivotx.states import ENDED

GAP = "  "
CUT = "…"


def clean(value: object) -> str:
    """A value as it can stand in one line; nothing for None."""
    if value is None:
        return ""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))


def width(text: str) -> int:
    """Columns of a terminal that *text* takes."""
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def cut(text: str, columns: int) -> str:
    """*text* in at most so many columns, with a mark where something is left out."""
    if width(text) <= columns:
        return text
    kept = ""
    for each in text:
        if width(kept + each) > columns - width(CUT):
            break
        kept += each
    return kept + CUT if columns > 0 else ""


def pad(text: str, columns: int) -> str:
    """*text* filled up with blanks."""
    return text + " " * (columns - width(text))


# -- the table of calls ----------------------------------------------------------------------------


class Column(msgspec.Struct, frozen=True):
    """One column of the table."""

    title: str
    least: int
    """Columns of the terminal below which it is left out."""
    importance: int
    """The lowest is left out first."""


COLUMNS = (
    Column("CREATED (UTC)", 19, 5),
    Column("STATE", 11, 9),
    Column("FROM", 8, 4),
    Column("TO", 8, 7),
    Column("GATEWAY", 12, 2),
    Column("CAUSE", 12, 6),
    Column("BILLED", 6, 1),
    Column("LOST", 4, 3),
    Column("REQUEST UUID", 36, 10),
)


def _cells(call: Mapping[str, Any]) -> tuple[str, ...]:
    billed = call.get("BillDuration")
    return (
        moment(call.get("Created"), 19),
        clean(call.get("State")),
        clean(call.get("From")),
        clean(call.get("To")),
        clean(call.get("Gateway")),
        clean(call.get("HangupCause")),
        f"{billed:.0f} s" if isinstance(billed, int | float) else "",
        clean(call.get("Undelivered") or ""),
        clean(call.get("RequestUUID")),
    )


def table(calls: Iterable[Mapping[str, Any]], columns: int | None) -> list[str]:
    """The lines of a table in at most so many columns (None: as many as it takes), the newest call first.

    RequestUUID is always whole: it is what other commands are given.
    """
    rows = [_cells(each) for each in calls]
    wide = [
        max([width(column.title), *(width(row[number]) for row in rows)])
        for number, column in enumerate(COLUMNS)
    ]
    kept = [number for number in range(len(COLUMNS)) if number != 7 or any(row[7] for row in rows)]
    if columns is not None:
        kept, wide = _fitting(kept, wide, columns)
    lines = [tuple(each.title for each in COLUMNS), *rows]
    return [
        GAP.join(pad(cut(line[number], wide[number]), wide[number]) for number in kept).rstrip()
        for line in lines
    ]


def _fitting(kept: Sequence[int], wide: Sequence[int], columns: int) -> tuple[list[int], list[int]]:
    """Which columns there is room for, and how wide each is then: what is wide gives way first."""
    kept, wide = list(kept), list(wide)
    least = [min(each.least, size) for each, size in zip(COLUMNS, wide, strict=True)]

    def room(sizes: Sequence[int]) -> int:
        return columns - sum(sizes[number] for number in kept) - len(GAP) * (len(kept) - 1)

    while len(kept) > 1 and room(least) < 0:
        kept.remove(min(kept, key=lambda number: COLUMNS[number].importance))
    while room(wide) < 0:
        yielding = max(kept, key=lambda number: wide[number] - least[number])
        if wide[yielding] <= least[yielding]:
            break  # not even the most important column fits: its line is longer
        wide[yielding] -= 1
    return kept, wide


def moment(time: object, characters: int = 23) -> str:
    """A time of the API (``2027-01-15T08:00:00.001Z``), cut off after so many characters."""
    return clean(time).replace("T", " ").removesuffix("Z")[:characters]


# -- one call --------------------------------------------------------------------------------------


def record(call: Mapping[str, Any], columns: int | None) -> list[str]:
    """Everything on record of a call."""
    lines = [
        f"Call {clean(call.get('RequestUUID'))} is {clean(call.get('State')) or 'of no known state'}",
        "",
    ]
    facts = _facts(call)
    longest = max((len(name) for name, _ in facts), default=0)
    lines += [f"  {pad(name, longest)}  {value}" for name, value in facts]
    for title, part in (
        ("Attempts", _attempts(call, columns)),
        ("Callbacks", _callbacks(call, columns)),
        ("Script", _script(call, columns)),
        ("Timeline", timeline(call, columns)),
    ):
        if part:
            lines += ["", title, *(f"  {line}" for line in part)]
    return lines


def not_hung_up(call: Mapping[str, Any], channel: str = "") -> str:
    """Why a call was not hung up: its record, or its row of the list, which was asked for by its *channel*."""
    which = f"call {clean(call.get('RequestUUID'))}"
    state = clean(call.get("State"))
    if state not in ENDED:
        return (
            f"{which} is {state or 'of no known state'}, but channel {channel} is not up" if channel else ""
        )
    told = [each.get("Time") for each in _list(call.get("Timeline")) if each.get("Event") == "CallEnded"]
    when = moment(call.get("EndTime") or (told[0] if told else ""))
    return (
        f"{which} has ended already, with {clean(call.get('HangupCause'))}{f' at {when} UTC' if when else ''}"
    )


def _facts(call: Mapping[str, Any]) -> list[tuple[str, str]]:
    limits = [
        f"{clean(call[name])} s from the {since}"
        for name, since in (("HangupOnRing", "first ring"), ("TimeLimit", "answer"))
        if call.get(name) is not None
    ]
    lasted = [
        f"{call[name]:.1f} s from the {since}"
        for name, since in (("Duration", "making of its channel"), ("BillDuration", "answer"))
        if isinstance(call.get(name), int | float)
    ]
    return [
        (name, value)
        for name, value in (
            ("From", clean(call.get("From"))),
            ("To", clean(call.get("To"))),
            ("Account", clean(call.get("AccountSID"))),
            ("Channel", clean(call.get("CallUUID"))),
            *(
                (name, f"{moment(call[field])} UTC")
                for name, field in (
                    ("Created", "Created"),
                    ("Rang", "RingTime"),
                    ("Answered", "AnswerTime"),
                    ("Ended", "EndTime"),
                )
                if call.get(field)
            ),
            ("Lasted", ", ".join(lasted)),
            ("Limits", ", ".join(limits)),
            ("Cause", clean(call.get("HangupCause"))),
        )
        if value
    ]


def _list(thing: object) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing of what is something else."""
    return [each for each in thing if isinstance(each, Mapping)] if isinstance(thing, list) else []


def _attempts(call: Mapping[str, Any], columns: int | None) -> list[str]:
    lines = []
    for each in _list(call.get("Attempts")):
        switch = f" on {clean(each['Switch'])}" if each.get("Switch") else ""
        lines.append(f"{clean(each.get('Number'))}  {clean(each.get('Gateway'))}{switch}")
        lines += [f"   {line}" for said in _attempt(each) for line in wrap(said, columns, 5)]
    return lines


def _attempt(attempt: Mapping[str, Any]) -> list[str]:
    """What became of an attempt, in up to three sentences."""
    came = [
        f"{what} after {attempt[name]:.1f} s"
        for name, what in (("RingDelay", "rang"), ("AnswerDelay", "answered"))
        if isinstance(attempt.get(name), int | float)
    ]
    if attempt.get("EarlyMedia"):
        came.append("with early media")
    end = [clean(attempt.get("Cause"))] if attempt.get("Cause") else []
    end += [f"{what} {clean(attempt[name])}" for name, what in _NUMBERS if attempt.get(name)]
    if attempt.get("HungUpBy") not in (None, "unknown"):
        end.append(f"hung up by the {clean(attempt['HungUpBy'])}".replace("the plivotx", "plivotx"))
    said = [", ".join(came), ", ".join(end), clean(attempt.get("Why"))]
    return [each for each in said if each] or ["is under way"]


_NUMBERS = (("SipCode", "SIP"), ("Q850", "Q.850"))


def _callbacks(call: Mapping[str, Any], columns: int | None) -> list[str]:
    found = _list(call.get("Callbacks"))
    longest = max((width(clean(each.get("Key"))) for each in found), default=0)
    lines = []
    for each in found:
        tries = _list(each.get("Tries"))
        times = "not tried yet" if not tries else f"{len(tries)} {'try' if len(tries) == 1 else 'tries'}"
        state = clean(each.get("State")).replace("-", " ")
        where = f"{clean(each.get('Method'))} {without_query(clean(each.get('Url')))}"
        head = f"{pad(clean(each.get('Key')), longest)}  {state}, {times}: {where}"
        lines += wrap(head, columns, 2, longest + 2)
        for one in tries:
            if one.get("Why"):
                failed = f"try {clean(one.get('Try'))}, {moment(one.get('Time'))[11:]}: {clean(one['Why'])}"
                lines += [f"{' ' * (longest + 2)}{line}" for line in wrap(failed, columns, longest + 4)]
    return lines


def without_query(url: str) -> str:
    """A URL without its query, which may hold what is not for everybody's eyes."""
    bare, mark, _ = url.partition("?")
    return f"{bare}?..." if mark else bare


def _script(call: Mapping[str, Any], columns: int | None) -> list[str]:
    script = call.get("Script")
    if not isinstance(script, Mapping):
        return []
    lines = [
        f"document {clean(each.get('Number'))}, {clean(each.get('Characters'))} characters"
        for each in _list(script.get("Documents"))
    ]
    verbs = [
        clean(each.get("Name")) or ("(one that was left)" if each.get("Ended") else "(one that runs)")
        for each in _list(script.get("Verbs"))
    ]
    if verbs:
        lines += wrap(f"verbs: {', '.join(verbs)}", columns, 2, 7)
    for each in _list(script.get("Errors")):
        lines += wrap(f"error: {clean(each.get('Why'))}", columns, 2, 7)
    if script.get("Ended"):
        lines += wrap(f"over: {clean(script.get('Why'))}", columns, 2, 6)
    return lines


def timeline(call: Mapping[str, Any], columns: int | None) -> list[str]:
    """The events, each with its time of day and what it says."""
    return [
        line
        for each in events(call)
        for line in wrap(f"{moment(each.get('Time'))[11:]}  {clean(each.get('Text'))}", columns, 2, 14)
    ]


def events(call: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The events in the timeline of a record, or in what is new of it."""
    return _list(call.get("Timeline"))


def wrap(text: str, columns: int | None, taken: int, indent: int = 0) -> list[str]:
    """*text* in lines that leave *taken* columns free; all but the first are indented."""
    if columns is None:
        return [text]
    return textwrap.wrap(
        text,
        max(columns - taken, indent + 20),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
        drop_whitespace=True,
    ) or [""]


def news(call: Mapping[str, Any], columns: int | None) -> str:
    """One line about a call in a list: where it stands now."""
    row = _cells(call)
    parts = [
        moment(call.get("Changed") or call.get("Created"))[11:],
        row[8],
        f"{row[2]} to {row[3]}",
        " ".join(filter(None, (row[1], row[5]))),
        f"by {row[4]}" if row[4] else "",
    ]
    line = GAP.join(filter(None, parts))
    return line if columns is None else cut(line, columns)
