"""The API commands (`api`, `bgapi`, sched_api, hooks): output texts by the recordings in_api and call_*.

Some answers end with a line feed and some do not; both are as recorded.  `originate` is in originate.py, because its
answer comes later.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from plivotx.emulator.causes import cause as read_cause
from plivotx.emulator.dialstring import integer, separate
from plivotx.emulator.events import Event, to_bytes, to_text, url_encode
from plivotx.emulator.recording import find, start_session, stop_session
from plivotx.emulator.runner import DENIED

if TYPE_CHECKING:
    from plivotx.emulator.channel import Channel
    from plivotx.emulator.switch import Switch

Command = Callable[["Switch", str], str]

NO_CHANNEL = "-ERR No such channel!\n"
NO_SESSION = "-ERR Cannot locate session!\n"
_SHOW_USAGE = (
    "-USAGE: codec|endpoint|application|api|dialplan|file|timer|calls [count]|channels [count|like <match string>]|calls|"
    "detailed_calls|bridged_calls|detailed_bridged_calls|aliases|complete|chat|management|modules|nat_map|say|interfaces|"
    "interface_types|tasks|limits|status\n"
)
_ROW = [
    "uuid",
    "direction",
    "created",
    "created_epoch",
    "name",
    "state",
    "cid_name",
    "cid_num",
    "ip_addr",
    "dest",
    "application",
    "application_data",
    "dialplan",
    "context",
    "read_codec",
    "read_rate",
    "read_bit_rate",
    "write_codec",
    "write_rate",
    "write_bit_rate",
    "secure",
    "hostname",
    "presence_id",
    "presence_data",
    "accountcode",
    "callstate",
    "callee_name",
    "callee_num",
    "callee_direction",
    "call_uuid",
    "sent_callee_name",
    "sent_callee_num",
    "initial_cid_name",
    "initial_cid_num",
    "initial_ip_addr",
    "initial_dest",
    "initial_dialplan",
    "initial_context",
]


def run(switch: Switch, command: str, argument: str) -> str:
    """Run one command and return its output; an empty one becomes `-ERR no reply` on the socket."""
    function = COMMANDS.get(command.lower())
    if function is None:
        return f"-ERR {command} Command not found!\n"
    return function(switch, argument)


def expand(switch: Switch, text: str, channel: Channel | None = None) -> str:
    """Expand `${name}` as the eval command does; `${api(..)}` only if the switch allows it."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        call = re.fullmatch(r"([^( ]+)[( ]([^)]*)\)?", name)
        if call:
            if not switch.api_expansion:
                return DENIED
            out: list[str] = []
            switch.api(call[1], call[2], out.append)
            return "".join(out)
        found: str | None = channel.get(name) if channel is not None else switch.globals.get(name)
        return found or ""

    return re.sub(r"\$\{([^{}]*)\}", value, text)


def _words(argument: str, most: int) -> list[str]:
    return separate(argument, " ", most)


# --- about the switch


def _status(switch: Switch, _: str) -> str:
    return (
        f"UP {switch.uptime()}\nFreeSWITCH (Version {_version()} 64bit) is ready\n"
        f"{switch.session_count} session(s) since startup\n"
        f"{len(switch.channels)} session(s) - peak {len(switch.channels)}, last 5min {len(switch.channels)} \n"
        "0 session(s) per Sec out of max 30, peak 0, last 5min 0 \n"
        "1000 session(s) max\nmin idle cpu 0.00/99.00\nCurrent Stack Size/Max 240K/8192K\n"
    )


def _version() -> str:
    from plivotx.emulator.switch import VERSION  # noqa: PLC0415 - switch.py imports this module

    return VERSION


def _version_command(_: Switch, __: str) -> str:
    return f"FreeSWITCH Version {_version()} (emulator 64bit)\n"


def _bgapi(switch: Switch, argument: str) -> str:
    command, _, rest = argument.partition(" ")
    job = switch.new_uuid()
    switch.background(job, command, rest)
    return f"+OK Job-UUID: {job}\n"


def _uptime(switch: Switch, _: str) -> str:
    return f"{int(switch.clock.seconds() - switch.started)}\n"


def _create_uuid(switch: Switch, _: str) -> str:
    return switch.new_uuid()


def _echo(_: Switch, argument: str) -> str:
    return argument


def _hostname(switch: Switch, _: str) -> str:
    return switch.name


def _global_getvar(switch: Switch, argument: str) -> str:
    if not argument:
        return "".join(f"{name}={value}\n" for name, value in switch.globals.items())
    value: str = switch.globals.get(argument, "")
    return value


def _global_setvar(switch: Switch, argument: str) -> str:
    name, equals, value = argument.partition("=")
    if not equals:
        return "-ERR invalid syntax. USAGE: global_setvar <var>=<value> [=<value2>]\n"
    switch.globals[name] = value
    return "+OK"


def _eval(switch: Switch, argument: str) -> str:
    channel = None
    if argument.lower().startswith("uuid:"):
        uuid, _, argument = argument[5:].partition(" ")
        channel = switch.locate(uuid)
    return expand(switch, argument, channel)


def _expand(switch: Switch, argument: str) -> str:
    command, _, rest = expand(switch, argument).partition(" ")
    out: list[str] = []
    switch.api(command, rest, out.append)
    return "".join(out)


def _strepoch(switch: Switch, argument: str) -> str:
    try:
        at = datetime.fromisoformat(argument).replace(tzinfo=UTC).timestamp()
    except ValueError:
        at = switch.wall()
    return str(int(at))


def _md5(_: Switch, argument: str) -> str:
    return hashlib.md5(to_bytes(argument)).hexdigest()  # noqa: S324 - what the command is called


def _url_encode(_: Switch, argument: str) -> str:
    return url_encode(argument)


def _url_decode(_: Switch, argument: str) -> str:
    data = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), to_bytes(argument))
    return to_text(data.partition(b"\0")[0])


def _module_exists(_: Switch, argument: str) -> str:
    return (
        "true"
        if argument in {"mod_sofia", "mod_commands", "mod_dptools", "mod_hash", "mod_event_socket"}
        else "false"
    )


def _system(_: Switch, __: str) -> str:
    return "-ERR the emulator runs no programs\n"


# --- channels


def _uuid_exists(switch: Switch, argument: str) -> str:
    return "true" if switch.locate(argument) is not None else "false"


def _uuid_kill(switch: Switch, argument: str) -> str:
    words = _words(argument, 2)
    if not words:
        return "-USAGE: <uuid> [cause]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_CHANNEL
    channel.hangup(read_cause(words[1] if len(words) > 1 else None))
    return "+OK\n"


def _uuid_getvar(switch: Switch, argument: str) -> str:
    words = _words(argument, 3)
    if len(words) < 2:
        return "-USAGE: <uuid> <var>\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_CHANNEL
    return channel.get(words[1]) or "_undef_"


def _uuid_setvar(switch: Switch, argument: str) -> str:
    words = _words(argument, 3)
    if len(words) < 2:
        return "-USAGE: <uuid> <var> [value]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_CHANNEL
    channel.set(words[1], words[2] if len(words) > 2 else None)
    return "+OK\n"


def _uuid_setvar_multi(switch: Switch, argument: str) -> str:
    usage = "-USAGE: <uuid> <var>=<value>;<var>=<value>...\n"
    uuid, _, rest = argument.partition(" ")
    if not rest:
        return usage
    channel = switch.locate(uuid)
    if channel is None:
        return NO_CHANNEL + usage
    for piece in separate(rest, ";", 64):
        name, _, value = piece.partition("=")
        channel.set(name, value)
    return "+OK\n"


def _uuid_dump(switch: Switch, argument: str) -> str:
    words = _words(argument, 2)
    if not words:
        return "-USAGE: <uuid> [format]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_CHANNEL
    headers = switch.core_headers("CHANNEL_DATA") + channel.state_headers()
    event = Event("CHANNEL_DATA", headers + channel.caller_headers() + channel.variable_headers())
    kind = words[1].lower() if len(words) > 1 else "plain"
    return to_text(event.xml() if kind == "xml" else event.json() if kind == "json" else event.plain())


def _uuid_transfer(switch: Switch, argument: str) -> str:
    words = _words(argument, 5)
    if len(words) < 2:
        return "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_CHANNEL
    words = words[1:]
    if words[0].lower() in {"-bleg", "-both"}:
        words = words[1:]
        if not words:
            return "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
    switch.transfer(channel, *words[:3])
    return "+OK\n"


def _uuid_break(switch: Switch, argument: str) -> str:
    words = _words(argument, 2)
    if not words:
        return "-USAGE: <uuid> [all]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_CHANNEL
    channel.runner.break_off(everything=len(words) > 1 and words[1].lower() == "all")
    return "+OK\n"


def _uuid_send_dtmf(switch: Switch, argument: str) -> str:
    def send(channel: Channel, text: str) -> bool:
        if channel.endpoint == "sofia" and not (channel.answered or channel.early):
            channel.pre_answer()  # FreeSWITCH makes early media of its own, though nothing came (measured)
            channel.outgoing.info_only = True
        sent = switch.send_digits(channel, text)
        channel.outgoing.info_only = False
        return sent

    return _dtmf(switch, argument, "sent", send)


def _uuid_recv_dtmf(switch: Switch, argument: str) -> str:
    return _dtmf(
        switch, argument, "received", lambda channel, text: switch.receive_digits(channel, text, "APP")
    )


def _dtmf(switch: Switch, argument: str, done: str, act: Callable[[Channel, str], bool]) -> str:
    words = _words(argument, 2)
    if len(words) < 2:
        return "-USAGE: <uuid> <dtmf_data>\n"
    channel = switch.locate(words[0])
    if channel is None:
        return NO_SESSION
    if not act(channel, words[1]):
        return "-ERR Operation failed\n"
    return f"+OK {words[0]} {done} DTMF {words[1]}.\n"


def _uuid_record(switch: Switch, argument: str) -> str:
    words = _words(argument, 5)
    usage = "-USAGE: <uuid> [start|stop|mask|unmask] <path> [<limit>] [<recording_vars>]\n"
    if len(words) < 3:
        return usage
    channel = switch.locate(words[0])
    if channel is None:
        return NO_SESSION
    action, path = words[1].lower(), words[2]
    if action == "start":
        limit = integer(words[3]) if len(words) > 3 else 0
        return "+OK Success\n" if start_session(channel, path, limit) else "-ERR Cannot record session!\n"
    if action == "stop":
        found = find(channel, path)
        for recording in found:
            stop_session(channel, recording)
        return "+OK Success\n" if found else "-ERR Cannot stop record session!\n"
    return usage


def _uuid_buglist(switch: Switch, argument: str) -> str:
    channel = switch.locate(argument)
    if channel is None:
        return ""
    bugs = "".join(
        " <media-bug>\n  <function>session_record</function>\n"
        f"  <target>{path}</target>\n  <thread-locked>0</thread-locked>\n </media-bug>\n"
        for path in channel.recordings
    )
    return f"<media-bugs>\n{bugs}</media-bugs>\n"


def _hupall(switch: Switch, argument: str) -> str:
    words = _words(argument, 3)
    cause = read_cause(words[0]) if words else "MANAGER_REQUEST"
    name, value = (words[1], words[2] if len(words) > 2 else "") if len(words) > 1 else ("", "")
    for channel in list(switch.channels.values()):
        if channel.up and (not name or channel.get(name) == value):
            channel.hangup(cause)
    if name:
        return f"+OK hangup all channels matching [{name}]=[{value}] with cause: {cause}\n"
    return f"+OK hangup all channels with cause: {cause}\n"


# --- the scheduler


def _sched_hangup(switch: Switch, argument: str) -> str:
    words = _words(argument, 3)
    if len(words) < 2:
        return "-USAGE: [+]<time> <uuid> [<cause>]\n"
    channel = switch.locate(words[1])
    if channel is None:
        return NO_CHANNEL
    switch.schedule_hangup(channel, words[0], words[2] if len(words) > 2 else "")
    return "+OK\n"


def _sched_api(switch: Switch, argument: str) -> str:
    words = _words(argument, 3)
    if len(words) < 3:
        return "-ERR Invalid syntax. USAGE: [+@]<time> <group_name> <command_string>[&]\n"
    when, group, text = words
    command, _, rest = text.rstrip("&").partition(" ")
    task = switch.schedule(when, "sched_api_function", group, lambda: switch.api(command, rest, _nobody))
    return f"+OK Added: {task.number}\n"


def _nobody(_: str) -> None:
    """Take the output that nobody reads."""


def _sched_del(switch: Switch, argument: str) -> str:
    return f"+OK Deleted: {switch.unschedule(argument)}\n"


# --- hash


def _hash(switch: Switch, argument: str) -> str:
    words = separate(argument, "/", 4)
    action = words[0].lower() if words else ""
    if action in {"insert", "insert_ifempty"} and len(words) == 4:
        key = f"{words[1]}_{words[2]}"
        if action == "insert" or key not in switch.hash:
            switch.hash[key] = words[3]
        return "+OK\n"
    if action == "delete" and len(words) >= 3:
        return "+OK\n" if switch.hash.pop(f"{words[1]}_{words[2]}", None) is not None else "-ERR Not found\n"
    if action == "select" and len(words) >= 3:
        return switch.hash.get(f"{words[1]}_{words[2]}", "")
    return "-ERR Usage: hash [insert|insert_ifempty|delete|delete_ifmatch|select]/<realm>/<key>/<value>\n"


def _hash_dump(switch: Switch, argument: str) -> str:
    words = _words(argument, 2)
    if not words or words[0] not in {"all", "limit", "db"}:
        return "-ERR Usage: hash_dump all|limit|db [<realm>]\n"
    if words[0] == "limit":
        return ""
    realm = words[1] + "_" if len(words) > 1 else ""
    return "".join(f"D/{key}/{value}\n" for key, value in switch.hash.items() if key.startswith(realm))


# --- show


def _row(channel: Channel) -> dict[str, str]:
    running = channel.runner.current
    codec, rate, bits = channel.codec or ("", "", "")
    known = {
        "uuid": channel.uuid,
        "direction": channel.direction,
        "created": channel.switch.local_time(channel.created),
        "created_epoch": str(channel.created // 1_000_000),
        "name": channel.name,
        "state": channel.state,
        "cid_name": channel.caller_name,
        "cid_num": channel.caller_number,
        "dest": channel.destination,
        "application": running.app if running else "",
        "application_data": running.argument if running else "",
        "dialplan": channel.dialplan,
        "context": channel.context,
        "read_codec": codec,
        "read_rate": rate,
        "read_bit_rate": bits,
        "write_codec": codec,
        "write_rate": rate,
        "write_bit_rate": bits,
        "hostname": channel.switch.name,
        "callstate": channel.call_state,
        "callee_name": channel.callee_name,
        "callee_num": channel.callee_number,
        "callee_direction": "RECV" if channel.flipped else "",
        "call_uuid": channel.uuid,
        "initial_cid_name": channel.orig_caller_name,
        "initial_cid_num": channel.orig_caller_number,
        "initial_dest": channel.destination,
        "initial_context": "default",
    }
    return {name: known.get(name, "") for name in _ROW}


def _show(switch: Switch, argument: str) -> str:
    words = _words(argument, 20)
    if not words or words[0].lower() not in {"channels", "calls"}:
        return _SHOW_USAGE
    kind = words[words.index("as") + 1].lower() if "as" in words[:-1] else "delim"
    newest = switch.micros() - switch.faults.show_lag * 1_000_000
    rows = [_row(channel) for channel in switch.channels.values() if channel.up and channel.created <= newest]
    if "like" in words[:-1]:
        wanted = words[words.index("like") + 1]
        rows = [row for row in rows if any(wanted in value for value in row.values())]
    if "count" in words:
        return f'{{"row_count":{len(rows)},"rows":[]}}' if kind == "json" else f"\n{len(rows)} total.\n"
    if kind == "json":
        if not rows:
            return '{"row_count": 0}\n'
        events = [Event("", list(row.items())) for row in rows]
        return (
            f'{{"row_count":{len(rows)},"rows":[' + ",".join(to_text(event.json()) for event in events) + "]}"
        )
    if kind == "xml":
        if not rows:
            return '<result row_count="0"/>\n'
        return _rows_xml(rows)
    if not rows:
        return "\n0 total.\n"
    lines = [",".join(_ROW), *(",".join(row.values()) for row in rows)]
    return "\n".join(lines) + f"\n\n{len(rows)} total.\n"


def _rows_xml(rows: list[dict[str, str]]) -> str:
    out = [f'<result row_count="{len(rows)}">\n']
    for i, row in enumerate(rows, 1):
        out.append(f'  <row row_id="{i}">\n')
        for name, value in row.items():
            text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            out.append(f"    <{name}>{text}</{name}>\n")
        out.append("  </row>\n")
    return "".join([*out, "</result>\n"])


def _strftime(switch: Switch, argument: str) -> str:
    at = datetime.fromtimestamp(switch.wall(), UTC)
    return at.strftime(argument or "%Y-%m-%d %T")


COMMANDS: dict[str, Command] = {
    "bgapi": _bgapi,
    "create_uuid": _create_uuid,
    "echo": _echo,
    "eval": _eval,
    "expand": _expand,
    "global_getvar": _global_getvar,
    "global_setvar": _global_setvar,
    "hash": _hash,
    "hash_dump": _hash_dump,
    "hostname": _hostname,
    "hupall": _hupall,
    "md5": _md5,
    "module_exists": _module_exists,
    "sched_api": _sched_api,
    "sched_del": _sched_del,
    "sched_hangup": _sched_hangup,
    "show": _show,
    "status": _status,
    "strepoch": _strepoch,
    "strftime": _strftime,
    "system": _system,
    "uptime": _uptime,
    "url_decode": _url_decode,
    "url_encode": _url_encode,
    "uuid_break": _uuid_break,
    "uuid_buglist": _uuid_buglist,
    "uuid_dump": _uuid_dump,
    "uuid_exists": _uuid_exists,
    "uuid_getvar": _uuid_getvar,
    "uuid_kill": _uuid_kill,
    "uuid_record": _uuid_record,
    "uuid_recv_dtmf": _uuid_recv_dtmf,
    "uuid_send_dtmf": _uuid_send_dtmf,
    "uuid_setvar": _uuid_setvar,
    "uuid_setvar_multi": _uuid_setvar_multi,
    "uuid_transfer": _uuid_transfer,
    "version": _version_command,
}
