"""``plivotx``: the commands, what they print, and their exit codes.  docs/cli.md tells it to its users."""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from io import StringIO, TextIOWrapper
from typing import Any, NoReturn, TextIO, TypeAlias
from urllib.parse import quote

import msgspec

from plivotx import config_file
from plivotx.cli import completion, text
from plivotx.cli.client import (
    DEFAULT_URL,
    Client,
    Failed,
    Http,
    Misused,
    Settings,
    Transport,
    Trouble,
    Unreachable,
    of_config,
)
from plivotx.cli.following import Following, pages
from plivotx.config import ConfigError
from plivotx.config_file import CLIENT_URL
from plivotx.states import ENDED, STATES

PROGRAM = "plivotx"
NO_HANGUP = "Hangup Call Failed"
"""All that this API has to say of a call that cannot be hung up."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
SHELLS = {"bash": completion.bash, "zsh": completion.zsh}

CALL = (
    ("--from", "From", "NUMBER", "the caller's number, shown to the far end"),
    ("--to", "To", "NUMBER", "the number that is dialled, appended to each gateway"),
    ("--gateways", "Gateways", "LIST", "dial-string prefixes, separated by commas, tried in order"),
    ("--answer-url", "AnswerUrl", "URL", "where the document is fetched when the far end answers"),
    ("--hangup-url", "HangupUrl", "URL", "told when the call has ended; the answer URL if not given"),
    ("--ring-url", "RingUrl", "URL", "told when it rings"),
    ("--caller-name", "CallerName", "NAME", "the caller's name, shown to the far end"),
    ("--gateway-timeouts", "GatewayTimeouts", "LIST", "seconds to the answer, one for each gateway"),
    ("--gateway-retries", "GatewayRetries", "LIST", "how often each gateway is tried"),
    ("--gateway-codecs", "GatewayCodecs", "LIST", "codecs for each gateway; an entry of several in quotes"),
    ("--extra-dial-string", "ExtraDialString", "PAIRS", "channel variables, name=value,..."),
    ("--send-digits", "SendDigits", "DIGITS", "digits that the far end hears after the answer"),
    ("--send-on-preanswer", "SendOnPreanswer", "", "it hears them in early media"),
    ("--time-limit", "TimeLimit", "SECONDS", "from the answer to the hangup"),
    ("--hangup-on-ring", "HangupOnRing", "SECONDS", "from the first ring to the hangup"),
    ("--account-sid", "AccountSID", "TEXT", "comes back with each callback"),
)
"""Options of `call`, and the parameters of ``POST /v0.1/Call/`` that they stand for."""
MANDATORY = ("--from", "--to", "--gateways", "--answer-url")
CALLS = (
    ("--state", "State", "", "where the call stands"),
    ("--from", "From", "NUMBER", "the caller's number"),
    ("--to", "To", "NUMBER", "the number that was dialled"),
    ("--account-sid", "AccountSID", "TEXT", "as given with the call"),
    ("--gateway", "Gateway", "PREFIX", "of the latest attempt"),
    ("--hangup-cause", "HangupCause", "CAUSE", "such as USER_BUSY"),
    ("--call-uuid", "CallUUID", "UUID", "the channel that rang or was answered"),
    ("--since", "Since", "TIME", "accepted then or later: ISO 8601, or so long ago (90s, 15m, 2h, 3d)"),
    ("--until", "Until", "TIME", "accepted before that time"),
    ("--undelivered", "Undelivered", "", "only calls of which a callback was given up"),
    ("--limit", "Limit", "NUMBER", "how many at most, 1 to 1000; 100 if not given"),
    ("--after", "After", "TEXT", "where the page before ended"),
)
"""Options of `calls`, and the parameters of ``GET /v0.1/Calls/``."""
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
EXIT_CODES = """\
exit codes: 0 done; 1 refused or failed (with --wait: nobody answered); 2 the command line cannot be
understood; 3 no server answers there, or it cannot now; 4 wrong credentials or address; 130 Ctrl-C"""


class Place(msgspec.Struct):
    """What a command works with besides its arguments: given, so that tests can give others."""

    environ: Mapping[str, str]
    out: TextIO
    err: TextIO
    columns: int | None
    """Of the terminal; None if the output goes elsewhere and may be as wide as it is."""
    transport: Callable[[Settings], Transport] = Http
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = time.time

    def say(self, *lines: str) -> None:
        """Print what was asked for, at once."""
        for each in lines:
            self.out.write(f"{each}\n")
        self.out.flush()

    def say_json(self, thing: object, *, indent: int | None = 2) -> None:
        """Print one JSON value: pretty, or in one line."""
        self.say(json.dumps(thing, indent=indent))

    def remark(self, line: str, prefix: str = f"{PROGRAM}: ") -> None:
        """Print what is no part of the result."""
        self.err.write(f"{prefix}{line}\n")
        self.err.flush()


# -- the commands ----------------------------------------------------------------------------------


def _call(given: argparse.Namespace, place: Place) -> int:
    client = _client(given, place)
    headers = {} if given.idempotency_key is None else {"Idempotency_Key": given.idempotency_key}
    answer = client.post("/v0.1/Call/", _params(given, CALL), **headers)
    uuid = str(answer.get("RequestUUID", ""))
    if not given.wait:
        place.say_json(answer) if given.json else place.say(text.clean(uuid))
        return 0
    if not given.json:
        place.say(text.clean(uuid))
    try:
        call = _until_ended(given, place, client, uuid)
    except KeyboardInterrupt:
        place.remark(f"the call goes on; {PROGRAM} hangup {text.clean(uuid)} ends it")
        raise
    if given.json:
        place.say_json(call)
    return 0 if call.get("AnswerTime") else 1


def _until_ended(given: argparse.Namespace, place: Place, client: Client, uuid: str) -> dict[str, Any]:
    """Tell what happens until the call has ended; returns its record."""
    following = Following(client, place.sleep, place.remark)
    for news in following.call(uuid):
        if not given.json:
            place.say(*text.timeline(news, place.columns))
        if news.get("State") in ENDED:
            return following.record(uuid)
    raise Unreachable(f"call {uuid} is not on record any more")


def _calls(given: argparse.Namespace, place: Place) -> int:
    client = _client(given, place)
    wanted = _params(given, CALLS)
    for name in ("Since", "Until"):
        if name in wanted:
            wanted[name] = _moment(wanted[name], place.wall())
    if given.all:
        answer: dict[str, Any] = {}
        found: list[Any] = []
        for answer in pages(client, {"Limit": "1000", **wanted}):
            found += answer.get("Calls", ())
        answer = {**answer, "Calls": found}
    else:
        answer = client.get("/v0.1/Calls/", wanted)
    if given.json:
        place.say_json(answer)
        return 0
    rows = answer.get("Calls", [])
    if rows:
        place.say(*text.table(rows, place.columns))
    else:
        place.remark("no call fits")
    if answer.get("Next"):
        place.remark(f"there are more: --after {text.clean(answer['Next'])}, or --all")
    return 0


def _moment(value: str, now: float) -> str:
    """A time of the API for one that may be an age; raises Misused for what can be neither."""
    age = re.fullmatch(r"([0-9]{1,6})([smhd])", value)
    if not age and re.fullmatch(
        r"[0-9.]*\s*[A-Za-z ]+", value
    ):  # `now`, `2 hours`; the server knows of no age
        raise Misused(f"{value[:80]!a} is no time: ISO 8601, or so long ago (90s, 15m, 2h, 3d)")
    return str(round(max(0.0, now - int(age[1]) * AGES[age[2]]), 3)) if age else value


def _show(given: argparse.Namespace, place: Place) -> int:
    call = _client(given, place).record(given.request_uuid)
    place.say_json(call) if given.json else place.say(*text.record(call, place.columns))
    return 0


def _hangup(given: argparse.Namespace, place: Place) -> int:
    form = {
        name: value
        for name, value in (("RequestUUID", given.request_uuid), ("CallUUID", given.call_uuid))
        if value
    }
    if len(form) != 1:
        raise Misused("hangup takes either REQUEST_UUID or --call-uuid UUID")
    client = _client(given, place)
    try:
        answer = client.post("/v0.1/HangupCall/", form)
    except Failed as error:
        if given.json or str(error) != NO_HANGUP:
            raise
        why = _why_no_hangup(client, given)
        raise Failed(f"{error}: {why}" if why else str(error), error.answer) from None
    return _answered(given, place, answer)


def _why_no_hangup(client: Client, given: argparse.Namespace) -> str:
    """Why this call was not hung up, as the server has it on record; empty if that cannot be had."""
    channel = given.call_uuid
    try:
        if not channel:
            return text.not_hung_up(client.record(given.request_uuid))
        calls = client.get("/v0.1/Calls/", {"CallUUID": channel, "Limit": "1"}).get("Calls")
    except Failed as error:
        return str(error)
    except Trouble:
        return ""
    if not calls:
        return f"no call on record rang or was answered as channel {channel[:80]!a}"
    return text.not_hung_up(calls[0], channel=channel)


def _resend(given: argparse.Namespace, place: Place) -> int:
    form = {"Key": given.key} if given.key else {}
    path = f"/v0.1/Calls/{quote(given.request_uuid, safe='')}/Resend/"
    return _answered(given, place, _client(given, place).post(path, form))


def _answered(given: argparse.Namespace, place: Place, answer: Mapping[str, Any]) -> int:
    if given.json:
        place.say_json(answer)
    else:
        keys = answer.get("Callbacks")
        named = f": {', '.join(map(text.clean, keys))}" if isinstance(keys, list) else ""
        place.say(text.clean(answer.get("Message")) + named)
    return 0


def _watch(given: argparse.Namespace, place: Place) -> int:
    following = Following(_client(given, place), place.sleep, place.remark)
    if given.request_uuid is None:
        for row in following.calls():
            place.say_json(row, indent=None) if given.json else place.say(text.news(row, place.columns))
        return 0
    for news in following.call(given.request_uuid):
        if given.json:
            for each in text.events(news):
                place.say_json(each, indent=None)
        else:
            place.say(*text.timeline(news, place.columns))
    return 0


def _lint(given: argparse.Namespace, place: Place) -> int:
    from plivotx.cli import checks  # noqa: PLC0415 - it loads most of the server, which the others do without

    params = {}
    for each in given.param:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise Misused(f"--param {each!a} is no NAME=VALUE")
        params[name] = value
    said, answer = checks.lint(
        given.source, given.config, given.plugin_path, given.method, params, given.timeout, place.environ
    )
    place.say_json(answer) if given.json else place.say(*map(text.clean, said))
    return 0


def _check(given: argparse.Namespace, place: Place) -> int:
    from plivotx.cli import checks  # noqa: PLC0415 - the same

    said, answer = checks.check(given.config, place.environ)
    place.say_json(answer) if given.json else place.say(*said)
    return 0


def _completion(given: argparse.Namespace, place: Place) -> int:
    place.out.write(SHELLS[given.shell](PROGRAM, make_parser()))
    return 0


# -- settings --------------------------------------------------------------------------------------


def _client(given: argparse.Namespace, place: Place) -> Client:
    settings = _settings(given, place.environ)
    return Client(settings, place.transport(settings))


def _settings(given: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Options go before the environment, that before the configuration of a server."""
    url = user = token = ""
    if given.config:
        try:
            url, user, token = of_config(config_file.load(given.config, environ).config)
        except ConfigError as error:
            raise Misused(f"--config: {error}") from None
    url = given.url or environ.get(CLIENT_URL) or url
    return Settings(
        url=url or DEFAULT_URL,
        user=_first(given.user, environ.get("PLIVOTX_AUTH_ID"), user),
        token=_first(given.token, environ.get("PLIVOTX_AUTH_TOKEN"), token),
        cafile=given.cafile or "",
        timeout=given.timeout,
    )


def _first(*values: str | None) -> str:
    return next((each for each in values if each is not None), "")


def _params(given: argparse.Namespace, options: Sequence[tuple[str, str, str, str]]) -> dict[str, str]:
    """The parameters of the API that were given."""
    found = {}
    for option, parameter, _, _ in options:
        value = getattr(given, _dest(option))
        if value is True:
            found[parameter] = "true"
        elif value not in (None, False):
            found[parameter] = value
    return found


def _dest(option: str) -> str:
    return f"p_{option.removeprefix('--').replace('-', '_')}"


# -- the command line ------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Of one width wherever it runs, and without abbreviations, which a later option would make ambiguous."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named.setdefault("allow_abbrev", False)
        named.setdefault("formatter_class", _Formatter)
        super().__init__(*arguments, **named)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", value) or not float(value):
        raise argparse.ArgumentTypeError(f"{value!a} is no number of seconds above 0")
    return float(value)


def _key(value: str) -> str:
    if not re.fullmatch(r"[ -~]{1,255}", value):
        raise argparse.ArgumentTypeError(f"{value!a} is not 1 to 255 printable ASCII characters")
    return value


def make_parser() -> argparse.ArgumentParser:
    """The command line, whole."""
    parser = _Parser(
        prog=PROGRAM,
        description="Make calls, see what became of them, and check documents and configurations.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version('plivotx')}")
    adding = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    asking = _asking()

    def add(
        name: str, does: Callable[[argparse.Namespace, Place], int], meaning: str, *, asks: bool = True
    ) -> Any:
        made = adding.add_parser(
            name,
            help=meaning,
            description=f"{meaning[:1].upper()}{meaning[1:]}.",
            parents=[asking] if asks else [],
        )
        made.set_defaults(does=does)
        return made

    _add_calls(add)
    _add_checks(add)
    shell = add(
        "completion", _completion, "print the script that completes command lines in a shell", asks=False
    )
    shell.add_argument("shell", choices=tuple(SHELLS), help="which shell")
    return parser


_Add: TypeAlias = Callable[..., Any]
"""Adds a command: its name, the function that does it, its meaning, and whether it asks a server."""


def _asking() -> _Parser:
    """What every command that asks a server takes."""
    asking = _Parser(add_help=False)
    asking.add_argument("--json", action="store_true", help="print JSON")
    asking.add_argument("--url", metavar="URL", help=f"the server; PLIVOTX_URL, or {DEFAULT_URL}")
    asking.add_argument("--user", metavar="ID", help="AUTH_ID of the server; PLIVOTX_AUTH_ID")
    asking.add_argument(
        "--token",
        metavar="TOKEN",
        help="its AUTH_TOKEN; better in PLIVOTX_AUTH_TOKEN, which other users cannot see",
    )
    asking.add_argument(
        "--config", metavar="FILE", help="configuration of the server, which names address and credentials"
    )
    asking.add_argument(
        "--cafile", metavar="FILE", help="certificates (PEM) to trust for https, instead of the system's"
    )
    asking.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=30.0, help="for each step of a request; 30"
    )
    return asking


def _add_calls(add: _Add) -> None:
    """The commands that ask a server."""
    call = add("call", _call, "make a call and print its RequestUUID")
    for option, _, metavar, meaning in CALL:
        _add_option(call, option, metavar, meaning, required=option in MANDATORY)
    call.add_argument(
        "--idempotency-key",
        metavar="KEY",
        type=_key,
        help="a name for this call: the same one again makes no second call",
    )
    call.add_argument("--wait", action="store_true", help="tell what happens until the call has ended")

    calls = add("calls", _calls, "list calls, the newest first")
    for option, _, metavar, meaning in CALLS:
        _add_option(calls, option, metavar, meaning, choices=STATES if option == "--state" else None)
    calls.add_argument("--all", action="store_true", help="all pages, not only one")

    show = add("show", _show, "show what is on record of a call")
    show.add_argument("request_uuid", metavar="REQUEST_UUID", help="as `call` printed it")

    hangup = add("hangup", _hangup, "end a call, wherever it stands")
    hangup.add_argument("request_uuid", metavar="REQUEST_UUID", nargs="?", help="the call")
    hangup.add_argument("--call-uuid", metavar="UUID", help="its channel instead")

    resend = add("resend", _resend, "send callbacks of a call again that were given up")
    resend.add_argument("request_uuid", metavar="REQUEST_UUID", help="the call")
    resend.add_argument("--key", metavar="KEY", help="only this one, such as ring or hangup")

    watch = add("watch", _watch, "follow one call until it is closed, or all calls until Ctrl-C")
    watch.add_argument("request_uuid", metavar="REQUEST_UUID", nargs="?", help="the call; all, if not given")


def _add_checks(add: _Add) -> None:
    """The commands that look at a document or a configuration."""
    lint = add("lint", _lint, "check a document (RESTXML) as the server reads it", asks=False)
    lint.add_argument(
        "source", metavar="FILE-or-URL", help="a file, - for standard input, or a URL to fetch it from"
    )
    lint.add_argument("--json", action="store_true", help="print JSON")
    lint.add_argument(
        "--config", metavar="FILE", help="configuration of the server: its plugins, folders and limits"
    )
    lint.add_argument(
        "--plugin-path",
        metavar="FOLDER",
        action="append",
        default=[],
        help="a folder with verbs of your own; may be repeated",
    )
    lint.add_argument(
        "--method", choices=("POST", "GET"), default="POST", help="how a URL is requested; POST"
    )
    lint.add_argument(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter of that request; may be repeated",
    )
    lint.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=15.0, help="for that request; 15"
    )

    check = add(
        "check", _check, "check the configuration of a server, its plugins and certificates", asks=False
    )
    check.add_argument(
        "--config", metavar="FILE", help="the configuration; without one the defaults and the environment"
    )
    check.add_argument("--json", action="store_true", help="print JSON")


def _add_option(
    parser: argparse.ArgumentParser,
    option: str,
    metavar: str,
    meaning: str,
    *,
    required: bool = False,
    choices: Sequence[str] | None = None,
) -> None:
    if metavar:
        parser.add_argument(option, dest=_dest(option), metavar=metavar, help=meaning, required=required)
    elif choices:
        parser.add_argument(option, dest=_dest(option), choices=choices, help=meaning)
    else:
        parser.add_argument(option, dest=_dest(option), action="store_true", help=meaning)


def run(arguments: Sequence[str], place: Place) -> int:
    """Do what the command line says; returns the exit code.  Raises SystemExit for one that argparse refuses."""
    given = make_parser().parse_args(arguments)
    try:
        code: int = given.does(given, place)
    except Trouble as error:
        if getattr(given, "json", False):
            place.say_json(error.answer)
        else:
            for line in str(error).splitlines():
                place.remark(text.clean(line), error.prefix)
        return error.code
    return code


def main() -> NoReturn:
    """What the console script runs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the terminal knows few characters
    if not sys.stderr:  # closed: nobody wants to know
        sys.stderr = StringIO()
    if not sys.stdout:  # before anything is done of which nobody would hear
        sys.stderr.write(f"{PROGRAM}: standard output is closed\n")
        sys.exit(1)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    place = Place(os.environ, sys.stdout, sys.stderr, columns)
    try:
        code = run(sys.argv[1:], place)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # `plivotx calls | head`: nobody reads on
        _say_no_more()
        code = 0
    except OSError as error:  # a full disk: all else that cannot be read or reached is a Trouble
        with suppress(OSError):
            place.remark(f"standard output cannot be written: {error.strerror or error}")
        _say_no_more()
        code = 1
    sys.exit(code)


def _say_no_more() -> None:
    """Have Python find nothing wrong when it flushes standard output at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
