r"""The only place that builds dial strings: it makes a text safe for FreeSWITCH, or refuses it.

A value in the ``{name=value,...}`` of an `originate` line is cleaned three times on its way to the channel:
when the line is split at blanks, the block at commas, and the piece at its ``=`` (switch_utils.c,
switch_separate_string).  Each time outer blanks and quotes go, ``\'`` ``\"`` ``\\`` and the escaped delimiter
lose their backslash, and ``\n \r \t \s`` become what they stand for.  Brackets are counted before all that,
without regard to quotes or backslashes (switch_event.c, switch_event_create_brackets).  The safe forms here
were tried with thousands of random byte strings against a FreeSWITCH 1.10.12.

What a refused text would have done: run a program as FreeSWITCH's user (``${system(id)}``), call somebody
else (a comma or a bar in a number), set variables that execute something, forge SIP headers (a line end).
"""

import re
from collections.abc import Collection, Iterable
from fnmatch import translate

import msgspec

MAX_LENGTH = 256
"""Longest gateway prefix or number, characters."""
MAX_VARIABLES = 1000
"""Most variables of one block; from the 1024th on FreeSWITCH takes all the rest for one value."""


class Unsafe(ValueError):
    """The value of *name* cannot be carried to FreeSWITCH; *why* says what is wrong with it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name
        self.why = why


# -- values ----------------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SIP_HEADER = re.compile(r"(?i)sip_h_")
_SIP_NAME = re.compile(r"(?i)sip_")
_CALLER_NAME = re.compile(r"(?i)(origination|effective)_caller_id_")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_QUOTES = re.compile('["<>]')
_ADDRESS = re.compile("[/:@]")
_EXPANSION = re.compile(r"\$\\*\{")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")

# One backslash too few and the third clean-up meets a bare quote, one too many and it keeps a backslash.
_THREE_TIMES = str.maketrans(
    {
        "\\": 8 * "\\",
        "'": 7 * "\\" + "'",
        ",": r"\\,",
        " ": r"\\\\s",
        "\t": r"\\\\t",
    }
)
_ONCE = str.maketrans(
    {
        "\\": r"\\",
        "'": r"\'",
        " ": r"\s",
        "\t": r"\t",
        "\n": r"\n",
        "\r": r"\r",
    }
)
# Words that are looked for in the raw text: `:_:` makes an enterprise originate, the second switches the
# check for `${` off, the third is half of what makes FreeSWITCH reload its event socket (recorded:
# priv_reload_words).  A pair of quotes in the middle hides them, and is gone after a clean-up.
_LOOKED_FOR = re.compile(r"(?i)(?<=:)(?=_)|(?<=nested)(?=_vars)|(?<=mod)(?=_event)")

_ORDINARY = re.compile(r"[A-Za-z0-9+*#.-]*")
"""Of these characters nothing is refused or changed by what follows."""


def value(name: str, text: str) -> str:
    r"""Return the form of *text* that sets the variable *name* to it, in the ``{}`` of an `originate` line.

    Raises `Unsafe` for what no form can carry: NUL, a brace without its partner, ``${`` (the variable would be
    expanded later, or silently not be set), ``ARRAY::`` at the start; for CR and LF, which nothing needs; and
    for control characters, quotes and angle brackets where the value goes into a SIP message.
    """
    if _ORDINARY.fullmatch(text):
        return text
    _carriable(name, text)
    if "\r" in text or "\n" in text:
        raise Unsafe(name, "holds a line end")
    if _EXPANSION.search(text):
        raise Unsafe(name, "holds '${', which FreeSWITCH would expand")
    depth = 0
    for brace in re.findall("[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    if depth:
        raise Unsafe(name, "holds a brace without its partner")
    return _LOOKED_FOR.sub(r"\'\'", text.translate(_THREE_TIMES))


def variables(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the block ``{name=value,...}`` that sets *pairs*; empty values, which set nothing, are left out.

    Raises `Unsafe` as `value` does, and for a name that is none or comes twice (FreeSWITCH does not tell
    upper case from lower, and takes the last).
    """
    return _block((_variable(name), value(name, text)) for name, text in pairs)


def setvar(uuid: str, name: str, text: str) -> str:
    """Return the API command that sets a variable of a channel; an empty *text* unsets it.

    `uuid_setvar` cleans once, so that every text gets there but one with NUL or with ``ARRAY::`` at its start;
    `Unsafe` is raised for these and, where the value goes into a SIP message, for what would break that.
    A ``${`` arrives as it is: it must not be used in an application that expands (`set`), nor in a hook.
    """
    _variable(name)
    form = text
    if not _ORDINARY.fullmatch(text):
        _carriable(name, text)
        form = re.sub("(?i)(?<=mod)(?=_event)", "''", text.translate(_ONCE))
        if form.endswith(("\v", "\f")):
            form += "''"  # white space at the end of a command is cut off
    return f"uuid_setvar {_uuid('uuid', uuid)} {name} {form}"


def api(command: str, words: Iterable[str]) -> str:
    """Return the line of the API command *command* with *words*, each of which arrives as one word.

    Raises `Unsafe` for a word that would not: with a blank, a quote, a backslash, ``$`` (expanded by some
    commands), ``&`` (at the end of a sched_api, run in a thread of its own), ``|`` or a bracket.
    """
    if not _COMMAND.fullmatch(command):
        raise Unsafe("command", f"{command[:80]!a} is no name of an API command")
    listed = [*words]
    for each in listed:
        if not _WORD.fullmatch(each):
            raise Unsafe(
                command, f"is given the word {each[:80]!a}, which is empty or holds what would end it"
            )
    line = " ".join((command, *listed))
    if _RELOAD in line.lower():
        raise Unsafe(command, "holds the name of FreeSWITCH's event socket, which could make it reload")
    return line


def _carriable(name: str, text: str) -> None:
    """Refuse what no form carries anywhere, and what would break a SIP message."""
    if "\0" in text:
        raise Unsafe(name, "holds NUL")
    if text.startswith("ARRAY::"):
        raise Unsafe(name, "starts with 'ARRAY::', which FreeSWITCH would take for a list")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unsafe(name, "holds half a character (a lone surrogate)")
    if _SIP_HEADER.match(name):
        # one header and no more: quotes and angle brackets (Diversion has them) arrived as they were (1.10.12)
        _for_header(name, text)
    elif _SIP_NAME.match(name):
        _for_sip(name, text)
    elif _CALLER_NAME.match(name):
        _for_caller_id(name, text)


def _for_header(name: str, text: str) -> None:
    # an escaped line end in sip_h_X-A was a header of its own at the far end
    if _CONTROL.search(text):
        raise Unsafe(name, "holds a control character")


def _for_sip(name: str, text: str) -> None:
    _for_header(name, text)
    # a quote in a caller name ended it, and what followed was the caller's address
    if _QUOTES.search(text):
        raise Unsafe(name, 'holds one of the characters " < >')


def _for_caller_id(name: str, text: str) -> None:
    _for_sip(name, text)
    if "\\" in text:
        raise Unsafe(name, "holds a backslash; at its end it takes the closing quote, and the call fails")
    if _ADDRESS.search(text):
        # mod_sofia.c, switch_sanitize_number; tried on 1.10.12: "Sales: Bob" was called " Bob"
        raise Unsafe(
            name, "holds one of / : @, which FreeSWITCH takes for an address, and sends a part of it"
        )
    # mod_sofia.h, check_decode: what was refused above would come back as %22 or %0D
    if _ENCODED.search(text):
        raise Unsafe(name, "holds '%' and two hexadecimal digits, which FreeSWITCH would decode")


def _variable(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Unsafe(name, "is no name for a variable")
    return name


def _block(forms: Iterable[tuple[str, str]]) -> str:
    seen: set[str] = set()
    block = []
    for name, form in forms:
        if not form:
            continue
        lower = name.lower()
        if lower in seen:
            raise Unsafe(name, "is set twice")
        if len(seen) == MAX_VARIABLES:
            raise Unsafe(name, f"is one variable too many: {MAX_VARIABLES} is all that FreeSWITCH takes")
        seen.add(lower)
        block.append(f"{name}={form}")
    return "{" + ",".join(block) + "}"


# -- what is dialled -------------------------------------------------------------------------------

_GATEWAY = re.compile(r"[A-Za-z0-9+*#._:/@-]+")
_NUMBER = r"\+?[A-Za-z0-9*#._-]+"
# no underscore in a host: so no colon follows one, and no prefix makes `:_:` with what is behind it
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_PLAIN = re.compile(_NUMBER)
_AT_HOST = re.compile(f"{_NUMBER}@{_HOST}")
_URI = re.compile(f"(?i:sips?):(?:{_NUMBER}@)?{_HOST}")
_UUID = re.compile(r"[A-Za-z0-9-]+")
_RELOAD = "mod_event_socket"  # here nothing can hide it (recorded: priv_reload_words)
_CAUSE = re.compile(r"[A-Z0-9_]+")
_COMMAND = re.compile(r"[a-z_]+")
_WORD = re.compile(r"[A-Za-z0-9_%+*#.,:;=@/?!~-]+")
_CODEC = re.compile(r"[A-Za-z0-9._@-]+")


def gateway(prefix: str, name: str = "Gateways") -> str:
    """Return *prefix*, the part of a dial string before the number, if it is safe; raises `Unsafe` if not.

    Letters, digits and ``+*#._:/@-`` make up every prefix in use.  Of the rest, a blank ends the dial string and
    what follows is run; ``,`` and ``|`` start another leg, as ``:_:`` does; brackets hold variables; quotes and
    backslashes change what follows; ``$`` expands; ``&`` runs an application and ``=`` lets mod_loopback run
    one (``loopback/app=``); ``^`` cuts; ``;`` ``?`` ``%`` and ``<>`` change the SIP address.
    """
    if not prefix:
        raise Unsafe(name, "is empty")
    if len(prefix) > MAX_LENGTH:
        raise Unsafe(name, f"is longer than {MAX_LENGTH} characters")
    if not _GATEWAY.fullmatch(prefix):
        raise Unsafe(name, "may hold only letters, digits and + * # . _ : / @ -")
    if ":_:" in prefix:
        raise Unsafe(name, "holds ':_:', which starts another call")
    if _RELOAD in prefix.lower():
        raise Unsafe(name, "holds the name of FreeSWITCH's event socket, which could make it reload")
    if _is_gateway(prefix) and "/" not in prefix[len("sofia/gateway/") :]:
        raise Unsafe(name, "lacks the / behind the gateway's name")
    if "@" in prefix and _is_gateway(prefix):
        raise Unsafe(name, "holds '@': the call would go past the gateway, to the host behind it")
    return prefix


def destination(text: str, prefix: str, name: str = "To") -> str:
    """Return *text*, what is dialled behind the gateway *prefix*, if it is safe; raises `Unsafe` if not.

    It is a number (letters, digits and ``*#._-``, a ``+`` before them), and where *prefix* does not name a
    gateway of mod_sofia it may be ``number@host`` or a ``sip:`` address without parameters: behind a gateway's
    name these would send the call to a host of the caller's choice (mod_sofia.c, sofia_outgoing_channel).
    """
    if not text:
        raise Unsafe(name, "is empty")
    if len(text) > MAX_LENGTH:
        raise Unsafe(name, f"is longer than {MAX_LENGTH} characters")
    if not _PLAIN.fullmatch(text):
        if not (_AT_HOST.fullmatch(text) or _URI.fullmatch(text)):
            raise Unsafe(name, "may hold only letters, digits and * # . _ - with a + before them")
        if _is_gateway(prefix):
            raise Unsafe(name, "names a host, and the call must go to the gateway")
    if _RELOAD in (prefix + text).lower():
        raise Unsafe(name, "makes the name of FreeSWITCH's event socket, which could make it reload")
    return text


def caller_number(text: str, name: str = "From") -> str:
    """Return *text* if it is safe as the number of the caller, which may be empty; raises `Unsafe` if not.

    It becomes the user part of SIP addresses, in Remote-Party-ID as it stands: ``1;tag=x`` sets a parameter, and
    what is before a ``:`` or behind an ``@`` is lost (tried on 1.10.12).
    """
    if len(text) > MAX_LENGTH:
        raise Unsafe(name, f"is longer than {MAX_LENGTH} characters")
    if text and not _PLAIN.fullmatch(text):
        raise Unsafe(name, "may hold only letters, digits and * # . _ - with a + before them")
    return text


def caller_name(text: str, name: str = "CallerName") -> str:
    """Return *text* if it can be carried as the name of the caller; raises `Unsafe` if not."""
    if len(text) > MAX_LENGTH:
        raise Unsafe(name, f"is longer than {MAX_LENGTH} characters")
    _for_caller_id(name, text)
    value(name, text)
    return text


# Variables whose value is run, by their names in FreeSWITCH 1.10.12 (the core, mod_dptools, mod_sofia, mod_loopback).
_EXECUTES = (
    "api_*",
    "*exec_*",
    "*execute_*",
    "*_hook",
    "group_confirm_*",
    "*transfer_*",
    "park_after_bridge",
    "loopback_app*",
    "bind_*",
)
_OURS = (
    "origination_uuid",
    "origination_nested_vars",
    "app_disable_expand_variables",
    "plivo_app",
    "plivo_request_uuid",
    "plivotx_*",
    "current_application*",
    "park_timeout",
    "originate_retries",
    "originate_retry_*",
    "originate_timeout",
    "return_ring_ready",
    "ignore_early_media",
    "absolute_codec_string",
)


# With each of these a gateway was sent a number other than To, or the call went past it to a host of the
# caller's choice (tried on 1.10.12): no list of gateways or destinations would have held.
_LEADS_ELSEWHERE = (
    "sip_invite_params",  # maddr=HOST
    "sip_invite_req_uri",
    "sip_invite_route_uri",
    "sip_invite_tel_params",
    "sip_route_uri",
    "sip_*h_route",
    # headers that say where answers and later requests of the call go; their short forms are v and m
    *("sip_*h_contact", "sip_*h_m", "sip_*h_record-route", "sip_*h_v", "sip_*h_via"),
)


# Tried on 1.10.12: with the first FreeSWITCH itself ends (a segmentation fault, and all its calls with it), with the
# second the telephone is dialled long after the call was given up, for there is no channel meanwhile.
_HARMS = ("hangup_on_single_reject", "originate_delay_start")


def extra(pairs: Iterable[tuple[str, str]], allowed: Collection[str] = ()) -> list[tuple[str, str]]:
    """Return *pairs*, variables of a client's, if they may be set; raises `Unsafe` if not.

    *allowed* are the names of those that execute something or lead the call elsewhere, and that the operator
    allows.  Those by which plivotx drives the call are refused in any case.
    """
    name = "ExtraDialString"
    allowed = frozenset(allowed)
    taken: dict[str, tuple[str, str]] = {}
    for variable, text in pairs:
        if not _NAME.fullmatch(variable) or len(variable) > MAX_LENGTH:
            raise Unsafe(name, f"sets {variable[:80]!a}, which is no name for a variable")
        lower = variable.lower()
        if (lower, text) == ("ignore_early_media", "true"):
            continue  # what is set in any case
        if _IS_OURS.fullmatch(lower):
            raise Unsafe(name, f"sets {variable}, which plivotx itself sets or relies on")
        if lower in _HARMS:
            raise Unsafe(name, f"sets {variable}, which FreeSWITCH does not bear")
        if _DOES_EXECUTE.fullmatch(lower) and variable not in allowed:
            raise Unsafe(name, f"sets {variable}, which executes something; the operator has not allowed it")
        if _DOES_LEAD_ELSEWHERE.fullmatch(lower) and variable not in allowed:
            raise Unsafe(
                name, f"sets {variable}, which leads the call elsewhere; the operator has not allowed it"
            )
        if lower in taken:
            raise Unsafe(name, f"sets {variable} twice")
        if "shell_stream:" in text.lower():
            raise Unsafe(name, f"sets {variable} to a sound that a program makes")
        try:
            value(variable, text)
        except Unsafe as error:
            raise Unsafe(name, f"sets {variable} to a value that {error.why}") from None
        taken[lower] = (variable, text)
    return list(taken.values())


def _one_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """What matches a name that fits one of *patterns*: a client may send a thousand names."""
    return re.compile("|".join(map(translate, patterns)))


_DOES_EXECUTE = _one_of(_EXECUTES)
_IS_OURS = _one_of(_OURS)
_DOES_LEAD_ELSEWHERE = _one_of(_LEADS_ELSEWHERE)


def digits(text: str, name: str = "SendDigits") -> str:
    """Return the argument of `send_dtmf` for digits as this API has them; raises `Unsafe` if they are none.

    A digit lasts 2000 ms where FreeSWITCH would take 250; ``W`` waits half a second as ``w`` does, where
    FreeSWITCH would wait a whole one.
    """
    found = _DIGITS.fullmatch(text)
    if not found:
        raise Unsafe(name, "may hold only 0-9 A-D * # w W, and @ with milliseconds at the end")
    return f"{found['digits'].replace('W', 'w')}@{found['length'] or DIGIT_MS}"


_DIGITS = re.compile("(?P<digits>[0-9A-D*#wW]{1,99})(?:@(?P<length>[0-9]{2,5}))?")
DIGIT_MS = 2000
"""How long a digit of SendDigits lasts, milliseconds, where it does not say."""


def codec_string(text: str, name: str = "GatewayCodecs") -> str:
    """Return the form of a comma list of codecs, in order of preference; raises `Unsafe` if it is none.

    ``^^:`` makes ``:`` the separator where the list is read, so that no comma needs to be escaped.
    """
    listed = [each.strip() for each in text.split(",")] if text.strip() else []
    if not all(_CODEC.fullmatch(each) for each in listed):
        raise Unsafe(name, "is no list of codecs such as PCMA,opus@48000h@20i")
    return "^^:" + ":".join(listed) if len(listed) > 1 else "".join(listed)


def _is_gateway(prefix: str) -> bool:
    return prefix.lower().startswith("sofia/gateway/")


def _uuid(name: str, text: str) -> str:
    if not _UUID.fullmatch(text):
        raise Unsafe(name, "is no UUID")
    return text


# -- what a channel leaves behind --------------------------------------------------------------------

_REALM = "plivotx"
# The only text here that holds `${`: it is ours.  `_KEPT` reads what comes of it.
_KEEP = (
    "${hangup_cause}|${answer_uepoch}|${end_uepoch}|${billsec}|${progress_uepoch}|${progress_media_uepoch}"
    "|${sip_hangup_disposition}|${sip_term_status}"
)
_KEPT = re.compile(
    r"(?P<cause>[A-Z0-9_]+)\|(?P<answered>[0-9]{0,18})\|(?P<ended>[0-9]{0,18})\|[0-9]*"
    r"\|(?P<rang>[0-9]{0,18})\|(?P<early_media>[0-9]{0,18})\|(?P<side>[a-z_]*)\|(?P<code>[0-9]*)\s*"
)


class Kept(msgspec.Struct, frozen=True):
    """How a channel ended that nobody watched; times are microseconds of the switch's clock, 0 for never."""

    cause: str
    answered_at: int = 0
    ended_at: int = 0
    rang_at: int = 0
    early_media_at: int = 0
    sip_side: str = ""
    """FreeSWITCH's sip_hangup_disposition, such as recv_refuse; empty if no SIP message ended it."""
    sip_code: str = ""


def hook(uuid: str) -> str:
    """Return the API command that a channel runs when it has ended, to leave a line behind in mod_hash.

    It needs origination_nested_vars=true in the same dial string, which switches FreeSWITCH's check for
    ``${`` off: that is why `value` makes this check.
    """
    return f"hash insert/{_REALM}/{_uuid('uuid', uuid)}/{_KEEP}"


def kept(uuid: str) -> str:
    """Return the API command that reads the line of `hook`; give its answer to `parse_kept`."""
    return f"hash select/{_REALM}/{_uuid('uuid', uuid)}"


def forget(uuid: str) -> str:
    """Return the API command that deletes the line of `hook`."""
    return f"hash delete/{_REALM}/{_uuid('uuid', uuid)}"


def parse_kept(line: str) -> Kept | None:
    """Read the line of `hook`; None if there was none (``-ERR no reply``) or if it is something else."""
    found = _KEPT.fullmatch(line)
    if found is None:
        return None
    return Kept(
        cause=found["cause"],
        answered_at=int(found["answered"] or 0),
        ended_at=int(found["ended"] or 0),
        rang_at=int(found["rang"] or 0),
        early_media_at=int(found["early_media"] or 0),
        sip_side=found["side"],
        sip_code=found["code"],
    )


# -- the whole line ----------------------------------------------------------------------------------


def leg(prefix: str, to: str, codecs: str) -> tuple[str, str]:
    """Return the texts in which the lines of a call differ: what is dialled, and its codecs.  Raises `Unsafe`."""
    return gateway(prefix) + destination(to, prefix), value("GatewayCodecs", codec_string(codecs))


def originate(
    *,
    channel: str,
    gateway: str,
    to: str,
    caller_id_number: str,
    caller_id_name: str,
    timeout: int,
    codecs: str,
    request_uuid: str,
    ring_backstop: tuple[int, str] | None,
    answer_backstop: tuple[int, str],
    progress_timeout: int = 0,
    send_digits: str = "",
    early_digits: bool = False,
    early_margin: int = 5,
    variables: Iterable[tuple[str, str]] = (),
    allowed: Collection[str] = (),
) -> str:
    """Return the API command that makes *channel* call *to* through *gateway*, and parks it when answered.

    *timeout* is the longest time to the answer, *progress_timeout* that to the first ring or early media (0:
    no such limit), seconds.  A backstop is the seconds after which FreeSWITCH itself hangs up, and with which
    cause: the one counts from the first ring or early media, the other from the answer.  *send_digits* are
    sent at the answer, or, as *early_digits*, in early media if there is any before; then FreeSWITCH hangs up
    *early_margin* seconds after the time-out.  *variables* are the client's; see `extra`.  Raises `Unsafe` with the API's name of the parameter that cannot be carried.
    """
    dialled, codec_form = leg(gateway, to, codecs)
    theirs = extra(variables, allowed)
    replaced = {each.lower() for each, _ in theirs}
    block = [
        ("origination_nested_vars", "true"),
        ("origination_uuid", _uuid("channel", channel)),
        ("origination_caller_id_number", value("From", caller_number(caller_id_number))),
        ("origination_caller_id_name", value("CallerName", caller_name(caller_id_name))),
        ("originate_timeout", f"{timeout:d}"),
        # while early media is ignored the far end hears no digits in it
        ("ignore_early_media", "false" if early_digits else "true"),
        ("app_disable_expand_variables", "true"),
        ("absolute_codec_string", codec_form),
        ("plivo_app", "true"),
        ("plivo_request_uuid", _uuid("request_uuid", request_uuid)),
        ("api_reporting_hook", _quoted(hook(channel))),
    ]
    if ring_backstop:
        # not execute_on_media: FreeSWITCH runs that at an answer without early media too, and would count
        # from there (switch_channel.c); execute_on_pre_answer is for early media alone
        limit = _hang_up_after(*ring_backstop)
        block += [("execute_on_ring_1", limit), ("execute_on_pre_answer_1", limit)]
    block.append(("execute_on_answer_1", _hang_up_after(*answer_backstop)))
    if progress_timeout:
        # not progress_timeout, which ends a far end that rings (measured on 1.10.12)
        block.append(("leg_progress_timeout", f"{progress_timeout:d}"))
    if early_digits:
        # originate_timeout ends with the early media; the answer takes this limit away again
        group = f"plivotx-{channel}-ring"
        limit = f"sched_api +{timeout + early_margin:d} {group} uuid_kill {channel} NO_ANSWER"
        block += [("api_on_pre_answer", _quoted(limit)), ("api_on_answer", _quoted(f"sched_del {group}"))]
    block = [each for each in block if each[0] not in replaced or each[0] not in _CLIENT_FIRST]
    block += [(name, value(name, text)) for name, text in theirs]
    # By the channel's own thread, once its media is up: an execute_on_... sends them as SIP INFO at times, and
    # in early media always (measured on 1.10.12).
    then = f"'send_dtmf:{digits(send_digits)},park' inline" if send_digits else "&park()"
    return f"originate {_block(block)}{dialled} {then}"


_CLIENT_FIRST = ("origination_caller_id_number", "origination_caller_id_name", "leg_progress_timeout")


def _hang_up_after(seconds: int, cause: str) -> str:
    if not _CAUSE.fullmatch(cause):
        raise Unsafe("cause", "is no hangup cause such as ALLOTTED_TIMEOUT")
    return _quoted(f"sched_hangup +{seconds:d} {cause}")


def _quoted(ours: str) -> str:
    """Return the form of a text of our own making, readable in a log: it has blanks, but no comma or quote."""
    return f"'{ours}'"
