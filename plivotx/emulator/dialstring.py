"""Reads the argument of `originate` as FreeSWITCH 1.10.12 does, traps included: a line becomes legs with their variables.

The rules are those of NOTES.md, section 3 ("The clean-ups"), of the recordings orig_codec_*, orig_three_bracket_kinds,
orig_local_clobber, orig_same_twice and in_value_encoding, and of `switch_separate_string` (switch_utils.c),
`switch_event_create_brackets` (switch_event.c), `switch_ivr_originate` (switch_ivr_originate.c) and `originate_function`
(mod_commands.c).  Text is `str`; bytes that are no UTF-8 come and go as surrogate escapes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from plivotx.emulator.variables import Variables

USAGE = (
    "-USAGE: <call url> <exten>|&<application_name>(<app_args>) "
    "[<dialplan>] [<context>] [<cid_name>] [<cid_num>] [<timeout_sec>]"
)
ENTERPRISE = ":_:"

_QUOTED_COMMA, _COMMA = "\1", "\2"  # what a comma inside [] is written as until the block is read
_MOST_WORDS = 10
_MOST_LEGS = 128
_MOST_VARIABLES = 1024
_NESTED = "origination_nested_vars=true"
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "s": " "}
_VARIABLE = re.compile(r"\$\\*\{")
_TRUE = frozenset(("yes", "on", "true", "t", "enabled", "active", "allow"))


class DialStringError(Exception):
    """The line cannot be dialled; `reply` is what `originate` answers, without its line feed."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True)
class Leg:
    """One party to be dialled."""

    endpoint: str
    """What stands before the first slash: `sofia`, `loopback`, `error` ..."""
    address: str | None
    """What stands behind it; None if there is no slash."""
    variables: Variables
    """What is set on the channel, in this order."""
    options: Mapping[str, str]
    """What the dialling itself reads (`origination_uuid`, caller ids ...): here nothing was left out for its `${`."""


@dataclass(frozen=True)
class Group:
    """Parties dialled at the same time (a `,` list); the first that answers is taken."""

    legs: tuple[Leg, ...]
    broken: bool = False
    """A block behind these legs has no end: they are dialled, and then the whole originate fails."""


@dataclass(frozen=True)
class Branch:
    """Groups tried one after the other (a `|` list), under one set of global variables."""

    groups: tuple[Group, ...]
    variables: Mapping[str, str]
    """Those of `<..>` and `{..}`; time-outs and the like are read from here."""
    broken: bool = False
    """Nothing to dial: a block without end, or no destination at all."""


@dataclass(frozen=True)
class Originate:
    """The argument of one `originate`."""

    branches: tuple[Branch, ...]
    """More than one only with `:_:`; they are dialled at the same time."""
    target: str
    """`&app(args)` or an extension."""
    dialplan: str = "XML"
    context: str = "default"
    caller_id_name: str | None = None
    caller_id_number: str | None = None
    timeout: int = 60
    """Seconds."""
    application: tuple[str, str | None] | None = field(default=None)
    """Name and argument if the target is an application: the argument ends at the first `)`."""


def true(value: str | None) -> bool:
    """Say whether FreeSWITCH takes a value for yes (switch_true: a few words, or a number that is not 0)."""
    if not value:
        return False
    return value.lower() in _TRUE or (_number(value) and integer(value) != 0)


def integer(value: str | None) -> int:
    """Read a number as C's atoi does: what does not begin with digits is 0."""
    match = re.match(r"\s*([+-]?[0-9]+)", value or "")
    return int(match[1][:18]) if match else 0


def holds_variable(value: str) -> bool:
    r"""Say whether FreeSWITCH sees a variable in a value: a `$`, any number of backslashes, a `{`."""
    return "$" in value and _VARIABLE.search(value) is not None


def separate(text: str, delimiter: str, most: int) -> list[str]:
    """Split a text and clean each piece: the step that everything in a dial string passes several times.

    A leading `^^X` chooses another delimiter.  A delimiter in quotes or after a backslash does not split.  The last of
    `most` pieces holds all the rest.
    """
    if text.startswith("^^") and len(text) > 3:
        delimiter, text = text[2], text[3:]
    if not text:
        return []
    pieces = _cut_at_blanks(text, most) if delimiter == " " else _cut(text, delimiter, most)
    return [_clean(piece, "" if delimiter == " " else delimiter) for piece in pieces]


def parse(line: str) -> Originate:
    """Read what follows `originate ` on a command line; raises `DialStringError` for what is answered with its usage."""
    line = line.partition("\0")[0]
    words: list[str | None] = list(separate(line, " ", _MOST_WORDS))
    if not 2 <= len(words) <= 7:
        raise DialStringError(USAGE)
    words = [None if word is not None and word.lower() == "undef" else word for word in words]
    words += [None] * (7 - len(words))
    dial, target, dialplan, context, name, number, timeout = words
    if target is None:
        raise DialStringError(USAGE)  # FreeSWITCH itself dies here: an assertion
    application = None
    if target.startswith("&") and len(target) > 1:
        app, opened, argument = target[1:].partition(")")[0].partition("(")
        application = (app, argument if opened else None)
    seconds = integer(timeout) if timeout is not None else 60
    return Originate(
        branches=branches(dial or ""),
        target=target,
        dialplan=dialplan or "XML",
        context=context or "default",
        caller_id_name=name,
        caller_id_number=number,
        timeout=seconds if seconds > 0 else 60,
        application=application,
    )


def branches(dial: str) -> tuple[Branch, ...]:
    """Read a dial string: the first word of originate's line, cleaned once, or the argument of the bridge application."""
    if ENTERPRISE not in dial:
        return (_branch(dial, Variables()),)
    # switch_ivr_enterprise_originate: `<..>` is common to all, and early media never counts
    common = Variables()
    rest = _blocks(dial.lstrip(" "), "<", ">", ",", common)
    if rest is None:
        return (Branch((), common, broken=True),)
    common["ignore_early_media"] = "true"
    return tuple(_branch(part, common) for part in rest.lstrip(" ").split(ENTERPRISE)[:_MOST_LEGS])


def _branch(dial: str, common: Variables) -> Branch:
    variables = Variables(common)
    dial = dial.lstrip(" ")
    checked = not (true(common.get("origination_nested_vars")) or _NESTED in dial.lower())
    rest = _blocks(dial, "<", ">", ",", variables)
    rest = _blocks(rest, "{", "}", ",", variables)
    rest = rest.lstrip(" ") if rest is not None else ""
    if not rest:
        return Branch((), variables, broken=True)
    groups = tuple(_group(part, variables, checked) for part in separate(rest, "|", _MOST_LEGS))
    return Branch(groups, variables)


def _group(text: str, variables: Variables, checked: bool) -> Group:
    legs: list[Leg] = []
    for part in separate(_hide_commas(text), ",", _MOST_LEGS):
        local = Variables()
        rest: str | None = part.lstrip(" ")
        while rest is not None and rest.startswith("["):
            end = _closing(rest, "[", "]")
            if end is not None:
                rest = rest[: end + 1].replace(_QUOTED_COMMA, ",") + rest[end + 1 :]
            rest = _block(rest, "[", "]", _COMMA, local)
        if rest is None:
            return Group(tuple(legs), broken=True)
        endpoint, slash, address = rest.lstrip(" ").partition("/")
        # {} is set last and so beats [], unless told otherwise (orig_three_bracket_kinds, orig_local_clobber)
        first, second = local, variables
        if true(variables.get("local_var_clobber")):
            first, second = variables, local
        merged = Variables()
        for block in (first, second):
            if checked and any(map(holds_variable, block.values())):
                kept = {name: value for name, value in block.items() if not holds_variable(value)}
                merged.take(Variables(kept))
            else:
                merged.take(block)
        legs.append(Leg(endpoint, address if slash else None, merged, Variables({**variables, **local})))
    return Group(tuple(legs))


def _hide_commas(text: str) -> str:
    """Write the commas inside `[..]` as bytes 1 (quoted) and 2, so that they do not start a leg."""
    if "[" not in text or "," not in text:
        return text
    out = list(text)
    end, quoted, other = -1, False, False
    for i, char in enumerate(text):
        if end < 0 and char == "[":
            closing = _closing(text, "[", "]", i)
            end = -1 if closing is None else closing
            other, quoted = text.startswith("^^", i + 1), False
        if char == "'":
            quoted = not quoted
        elif char == "," and i < end and text[i - 1] != "\\":
            out[i] = _QUOTED_COMMA if quoted or other else _COMMA
        if i == end:
            end = -1
    return "".join(out)


def _blocks(text: str | None, opening: str, closing: str, delimiter: str, into: Variables) -> str | None:
    """Cut all leading blocks off; None if one has no end."""
    while text is not None and text.startswith(opening):
        text = _block(text, opening, closing, delimiter, into)
    return text


def _block(text: str, opening: str, closing: str, delimiter: str, into: Variables) -> str | None:
    """Cut one leading block off and put its variables into a mapping; None if it has no end."""
    end = _closing(text, opening, closing)
    if end is None:
        return None
    inside, rest = text[1:end], text[end + 1 :]
    for name, value in _assignments(inside, delimiter):
        into[name] = value
    if (len(inside) - len(inside.rstrip("\\"))) % 2:
        # the backslash hides the end of the block from the splitting, which goes on through what follows and
        # ends that too at the first delimiter (switch_utils.c, separate_string_char_delim; tried on 1.10.12)
        other = inside[2] if inside.startswith("^^") and len(inside) > 2 else delimiter
        rest, *more = [*_cut(rest, other, _MOST_VARIABLES), ""]
        for name, value in _assignments(delimiter.join(more), delimiter) if any(more) else ():
            into[name] = value
    return rest


@lru_cache(maxsize=256)  # the legs and calls of one caller carry the same blocks
def _assignments(inside: str, delimiter: str) -> tuple[tuple[str, str], ...]:
    if inside.startswith("^^"):
        delimiter, inside = inside[2:3], inside[3:]
        if not delimiter:
            return ()
    found: list[tuple[str, str]] = []
    for piece in separate(inside, delimiter, _MOST_VARIABLES):
        sides = separate(piece, "=", 2)
        if len(sides) == 2:
            found.append((sides[0], sides[1]))
    return tuple(found)


def _closing(text: str, opening: str, closing: str, start: int = 0) -> int | None:
    """Find the bracket that closes the one at `start`: only brackets count, quotes and backslashes do not."""
    depth = 0
    for match in re.compile(f"[{re.escape(opening + closing)}]").finditer(text, start):
        depth += 1 if match[0] == opening else -1
        if depth == 0:
            return match.start()
    return None


def _cut(text: str, delimiter: str, most: int) -> Iterator[str]:
    if "\\" not in text and "'" not in text:
        pieces = text.split(delimiter, most - 1)
        yield from pieces if pieces[-1] else pieces[:-1]
        return
    start, quoted, count = 0, False, 1
    last_quote = text.rfind("'")
    for match in _special(delimiter).finditer(text):
        if count == most:
            break
        char, at = match[0], match.start()
        if char == "'":
            # a quote that nothing closes is an ordinary character
            if quoted or at < last_quote:
                quoted = not quoted
        elif char == delimiter and not quoted:
            yield text[start:at]
            start = at + 1
            count += 1
    if start < len(text):
        yield text[start:]


def _cut_at_blanks(text: str, most: int) -> Iterator[str]:
    start, count, length = 0, 1, len(text)
    while start < length:
        if count == most:
            yield text[start:]
            return
        at = start
        while at < length and text[at] == " ":
            at += 1
        quoted, end = False, length
        for match in _special(" ").finditer(text, at):
            if match[0] == "'":
                quoted = not quoted  # here an odd quote swallows the rest of the line
            elif match[0] == " " and not quoted:
                end = match.start()
                break
        yield text[start:end]
        count += 1
        start = end
        while start < length and text[start] == " ":
            start += 1


@lru_cache(maxsize=64)
def _special(delimiter: str) -> re.Pattern[str]:
    # a backslash and what follows it are one unit
    return re.compile(r"\\.?|'|" + re.escape(delimiter), re.DOTALL)


def _clean(piece: str, delimiter: str) -> str:
    """Drop outer blanks and quotes, and resolve what a backslash may stand before; the rest stays as it is."""
    piece = piece.lstrip(" ")
    if "\\" not in piece and "'" not in piece:
        return piece.rstrip(" ")
    out: list[str] = []
    end, quoted = 0, False
    last_quote = piece.rfind("'")
    for match in _runs(delimiter).finditer(piece):
        run = match[0]
        if run[0] == "'" and (quoted or match.start() < last_quote):
            quoted = not quoted
            if quoted:
                end = len(out)
            continue
        if run[0] == "\\" and len(run) == 2:
            escaped = run[1] != delimiter and _ESCAPES.get(run[1])
            out.append(escaped or run[1])
            end = len(out)
        else:
            out.append(run)
            if run[0] != " " or quoted:
                end = len(out)
    return "".join(out[:end])


@lru_cache(maxsize=64)
def _runs(delimiter: str) -> re.Pattern[str]:
    # what is escaped, what means something, and what does not as one piece
    return re.compile(r"[^\\' ]+| +|'|\\[\\'\"nrts" + re.escape(delimiter) + r"]|\\")


def _number(value: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9.]+", value) is not None
