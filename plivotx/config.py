"""The configuration: one frozen value, read once from an INI file and the environment.

Every complaint is made at once, each with its file and line.
"""

import configparser
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class ConfigError(Exception):
    """The configuration cannot be used; one line for each complaint."""


class GatewayRules(msgspec.Struct, frozen=True, kw_only=True):
    """How gateways of one prefix are treated, beyond what a request says."""

    prefix: str = ""
    """Beginning of the dial-string prefixes that this is for; the longest one that fits counts."""
    progress_timeout: int = 0
    """Seconds within which the far end must ring, give early media or answer; 0 for no such limit."""
    stop_causes: tuple[str, ...] = ()
    """Hangup causes after which no further gateway is tried."""
    cool_down: int = 0
    """Seconds for which a gateway that keeps failing is passed over; 0 for never."""
    cool_down_after: int = 5
    """Failures in a row that make it so."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator can choose.  docs/configuration.md has a row for each key."""

    http_address: str = "127.0.0.1:8088"
    fs_inbound_address: str = "emulator"
    """host:port of FreeSWITCH's event socket, or ``emulator``."""
    fs_inbound_password: str = "ClueCon"
    auth_id: str = ""
    auth_token: str = ""
    allowed_ips: tuple[str, ...] = ()
    log: str = "sqlite:var/plivotx.sqlite"
    """``sqlite:PATH``, ``redis://HOST:PORT/DB`` or ``memory:``."""
    plugin_path: tuple[str, ...] = ()
    default_http_method: str = "POST"
    max_call_duration: int = 14_400
    """Seconds from the answer; also the longest TimeLimit that has an effect."""
    backstop_margin: int = 5
    """Seconds by which the switch's own limits come later than ours."""
    dial_patience: int = 120
    """Seconds that an accepted call waits for its switch to be connected before it is given up."""
    http_timeout: float = 15.0
    """Seconds for one request to the application, from connecting to the last byte."""
    http_connect_timeout: float = 5.0
    """Seconds for the connection to the application, TLS included."""
    http_first_byte_timeout: float = 10.0
    """Seconds from the request to the first byte of the answer."""
    max_redirects: int = 5
    """Redirects that are followed in one request to the application."""
    proxy_url: str = ""
    """``http://host:port`` of a proxy for all requests to the application; empty for none."""
    http_ca_file: str = ""
    """Certificates (PEM) trusted for https instead of the system's; empty for the system's."""
    application_networks: tuple[str, ...] = ()
    """Networks to which requests to the application are confined; empty for everywhere."""
    extra_fs_vars: tuple[str, ...] = ()
    """Headers of FreeSWITCH's events (channel variables as ``variable_NAME``) that go with callbacks."""
    callback_tries: int = 8
    callback_retry_delay: float = 1.0
    callback_retry_longest: float = 60.0
    document_tries: int = 3
    document_retry_delay: float = 0.5
    max_document_bytes: int = 262_144
    max_documents: int = 1000
    """Documents of one call, one redirecting to the next, after which it is ended."""
    play_folders: tuple[str, ...] = ("/usr/local/freeswitch/sounds", "/usr/share/freeswitch/sounds")
    """Where on the switch's host the sounds are that documents may name by their whole path."""
    record_folders: tuple[str, ...] = ("/usr/local/freeswitch/recordings", "/var/lib/freeswitch/recordings")
    """Where on the switch's host recordings may be written (and played from); the first is the default."""
    retention_hours: int = 168
    """How long a closed call stays in the log."""

    def rules(self, prefix: str) -> GatewayRules:
        """How the gateway with this dial-string prefix is treated."""
        del prefix
        return GatewayRules()


SECTION = "plivotx"
MOST = 10**9
"""No number is larger."""
_LISTS = {
    "allowed_ips",
    "plugin_path",
    "extra_fs_vars",
    "application_networks",
    "play_folders",
    "record_folders",
}
_AT_LEAST: dict[str, float] = {
    "max_call_duration": 1,
    "backstop_margin": 2,
    "dial_patience": 1,
    "http_timeout": 0.1,
    "http_connect_timeout": 0.1,
    "http_first_byte_timeout": 0.1,
    "max_redirects": 0,
    "callback_tries": 1,
    "callback_retry_delay": 0,
    "callback_retry_longest": 0,
    "document_tries": 1,
    "document_retry_delay": 0,
    "max_document_bytes": 1,
    "max_documents": 1,
    "retention_hours": 24,
}


def load(path: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read *path* (None: defaults only); ``PLIVOTX_KEY`` in *environ* goes before the file.

    Raises ConfigError with a line for each thing that is wrong.
    """
    values: dict[str, tuple[str, str]] = {}  # field: value, where it stands
    complaints: list[str] = []
    if path is not None:
        _read_file(path, values, complaints)
    for field in Config.__struct_fields__:
        name = f"PLIVOTX_{field.upper()}"
        if name in environ:
            values[field] = (environ[name], f"environment variable {name}")
    fields: dict[str, Any] = {}
    for field, (text, where) in values.items():
        try:
            fields[field] = _convert(field, text)
        except ValueError as error:
            complaints.append(f"{where}: {field.upper()} = {text!r}: {error}")
    config = Config(**fields)
    unsafe = _unsafe(config)
    if unsafe:
        field, why = unsafe
        where = f"{values[field][1]}: " if field in values else ""
        complaints.append(f"{where}{field.upper()}: {why}")
    if complaints:
        raise ConfigError("\n".join(complaints))
    return config


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` in two; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _read_file(path: str, values: dict[str, tuple[str, str]], complaints: list[str]) -> None:
    # No section stands for all others, and a key means what it says: `%` and `$` are nothing special.
    parser = configparser.ConfigParser(
        interpolation=None, inline_comment_prefixes=(";",), default_section="", empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    try:
        text = Path(path).read_text(encoding="utf-8")
        parser.read_string(text, source=path)
    except (OSError, UnicodeError, configparser.Error) as error:
        complaints.append(f"{path}: {' '.join(str(error).split())}")
        return
    lines = _lines(text)
    for section in parser.sections():
        if section != SECTION:
            where = f"{path}, line {lines.get((section, ''), 0)}"
            complaints.append(f"{where}: unknown section [{section}], expected [{SECTION}]")
            continue
        for key, value in parser.items(section):
            where = f"{path}, line {lines.get((section, key), 0)}"
            field = key.lower()
            if field not in Config.__struct_fields__:
                complaints.append(f"{where}: unknown key {key}")
            elif field in values:
                complaints.append(f"{where}: {key} is there twice, also in {values[field][1]}")
            else:
                values[field] = (value, where)


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The number of the line of each section and of each key in it; the parser does not tell."""
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            section = line[1:].partition("]")[0]
            found.setdefault((section, ""), number)
        else:
            key = re.split("[=:]", line, maxsplit=1)[0].strip()
            found.setdefault((section, key), number)
    return found


def _convert(field: str, text: str) -> Any:
    if field in _LISTS:
        items = tuple(each.strip() for each in text.split(",") if each.strip())
        if field == "application_networks":
            return tuple(str(ipaddress.ip_network(each)) for each in items)
        if field in ("play_folders", "record_folders"):
            return tuple(map(_folder, items))
        return tuple(map(_address, items)) if field == "allowed_ips" else items
    default = getattr(Config(), field)
    if isinstance(default, int | float):
        number = type(default)(text)
        if not _AT_LEAST[field] <= number <= MOST:
            raise ValueError(f"must be from {_AT_LEAST[field]:g} to {MOST}")
        return number
    if field == "default_http_method" and text not in ("GET", "POST"):
        raise ValueError("must be GET or POST")
    if field == "http_address" or (field == "fs_inbound_address" and text != "emulator"):
        split_address(text)
    if field == "proxy_url" and text:
        scheme, _, address = text.partition("://")
        if scheme != "http":
            raise ValueError("must begin with http://")
        split_address(address.rstrip("/"))
    if any(ord(each) < 32 for each in text):
        raise ValueError("holds a control character")
    if field == "log" and text == "sqlite:":
        raise ValueError("names no file")
    if field == "log" and not text.startswith(("sqlite:", "redis://", "memory:")):
        raise ValueError("must begin with sqlite:, redis:// or memory:")
    return text


def _folder(text: str) -> str:
    """A folder on the switch's host, in a form that can stand in a command for it."""
    if not re.fullmatch("/[A-Za-z0-9_.@/-]*", text) or ".." in text.split("/"):
        raise ValueError(f"{text} is no whole path of letters, digits and _ . @ -")
    return re.sub("/+", "/", text).rstrip("/") or "/"


def _address(text: str) -> str:
    """An address in the one form in which those of clients are compared with it."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _unsafe(config: Config) -> tuple[str, str] | None:
    """The field that makes the API open to others, and why."""
    if bool(config.auth_id) != bool(config.auth_token):
        return "auth_id" if config.auth_id else "auth_token", "AUTH_ID and AUTH_TOKEN: give both or neither"
    host, _ = split_address(config.http_address)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not config.auth_id:
        return "http_address", f"{host} is beyond loopback, AUTH_ID and AUTH_TOKEN are required"
    return None
