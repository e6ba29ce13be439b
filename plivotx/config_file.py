"""From an INI file and the environment to a `Config`.

Every complaint is made at once, each with its file and line.  Files of the v0.1 server are read as well.
"""

import difflib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from plivotx import old_keys
from plivotx.causes import CAUSES, NAMES
from plivotx.config import (
    EMULATOR,
    SECRETS,
    Config,
    ConfigError,
    GatewayRules,
    SwitchConfig,
    as_network,
    split_address,
    without_credentials,
)
from plivotx.ini import Entry, Section, parse

SECTION = "plivotx"
KEYS: tuple[str, ...] = tuple(
    each for each in Config.__struct_fields__ if each not in ("named_switches", "gateways")
)
"""The keys of [plivotx], which are those of the environment as well, in lower case."""
SWITCH_KEYS = ("address", "password")
GATEWAY_KEYS = tuple(each for each in GatewayRules.__struct_fields__ if each != "prefix")
MOST = 10**9
"""No number is larger."""
MOST_BYTES = 4 * 1024 * 1024
"""No file that an operator names is longer: neither a configuration nor all certificates of a system."""
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
    "progress_timeout": 0,
    "cool_down": 0,
    "cool_down_after": 1,
}
CLIENT_URL = "PLIVOTX_URL"
"""The one variable of the environment that is the client's (`plivotx.cli`) and no key of the server."""


class Loaded(NamedTuple):
    """A configuration that can be used, and what its operator should hear of all the same."""

    config: Config
    warnings: tuple[str, ...] = ()
    """What stands there and is not done, each with its file and line."""
    notes: tuple[str, ...] = ()
    """What stands there, was of use to the v0.1 server, and is not needed."""
    places: Mapping[str, str] = {}
    """File and line, or the variable, of each key that was given, by its field."""

    def place(self, field: str) -> str:
        """What a complaint about this key begins with; empty if it was not given."""
        return f"{self.places[field]}: " if field in self.places else ""


def load(path: str | None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read *path* (None: defaults only); ``PLIVOTX_KEY`` in *environ* goes before the file.

    Raises ConfigError with a line for each thing that is wrong.
    """
    return _Reading(path).everything(environ)


class _Given(NamedTuple):
    text: str
    where: str


class _Reading:
    """What has been read so far, and what is to be said about it."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.values: dict[str, _Given] = {}
        self.switches: dict[str, tuple[SwitchConfig, str]] = {}
        self.gateways: dict[str, tuple[GatewayRules, str]] = {}
        self.complaints: list[str] = []
        self.warnings: list[str] = []
        self.unused: list[str] = []
        self.old = False

    def everything(self, environ: Mapping[str, str]) -> Loaded:
        if self.path is not None:
            self._file()
        self._environment(environ)
        fields = {
            field: value
            for field, given in self.values.items()
            if (value := self._value(field, given)) is not None
        }
        switches = self._switches()
        config = Config(
            **fields, named_switches=switches, gateways=tuple(each for each, _ in self.gateways.values())
        )
        self._together(config)
        if self.complaints:
            raise ConfigError("\n".join(self.complaints))
        notes = [f"{self.path}: not needed by plivotx: {', '.join(self.unused)}"] if self.unused else []
        places = {field: given.where for field, given in self.values.items()}
        return Loaded(config, tuple(self.warnings), tuple(notes), places)

    # -- the file --------------------------------------------------------------------------------------

    def _line(self, number: int) -> str:
        return f"{self.path}, line {number}"

    def _file(self) -> None:
        try:
            text = content(str(self.path)).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            self.complaints.append(f"{self.path}: {_why(error)}")
            return
        seen: dict[str, int] = {}
        for section in parse(text, lambda line, why: self.complaints.append(f"{self._line(line)}: {why}")):
            where = self._line(section.line)
            if section.name in seen:
                also = self._line(seen[section.name])
                self.complaints.append(f"{where}: section [{section.name}] is there twice, also in {also}")
                continue
            seen[section.name] = section.line
            kind, _, name = section.name.partition(" ")
            if section.name == SECTION:
                self._own(section)
            elif section.name in old_keys.SECTIONS:
                self._of_v01(section)
            elif kind == "switch":
                self._switch(section, name, where)
            elif kind == "gateway":
                self._gateway(section, name, where)
            else:
                known = (SECTION, *old_keys.SECTIONS, "switch NAME", "gateway PREFIX")
                expected = _meant(section.name, known) or f", expected [{SECTION}]"
                self.complaints.append(f"{where}: unknown section [{section.name}]{expected}")

    def _own(self, section: Section) -> None:
        for entry in section.entries:
            if entry.key.lower() in KEYS:
                self._take(entry.key.lower(), entry.key, entry.value, self._line(entry.line))
            else:
                self._unknown(entry, section, [each.upper() for each in KEYS])

    def _of_v01(self, section: Section) -> None:
        self.old = True
        known = old_keys.SECTIONS[section.name]
        for entry in section.entries:
            where = self._line(entry.line)
            meaning = known.get(entry.key)
            if meaning is None:
                self._unknown(entry, section, known)
            elif meaning.field:
                value = entry.value.replace("%%", "")
                if "%" in value:
                    self.complaints.append(f"{where}: {entry.key}: in [{section.name}] a % is written %%")
                else:
                    self._take(meaning.field, entry.key, entry.value.replace("%%", "%"), where)
            elif meaning.lacking and entry.value:
                self.warnings.append(f"{where}: {entry.key}: {meaning.lacking}")
            else:
                self.unused.append(f"{entry.key} (line {entry.line})")

    def _take(self, field: str, name: str, text: str, where: str) -> None:
        if field in self.values:
            also = self.values[field].where
            self.complaints.append(f"{where}: {name} is there twice, also in {also}")
        else:
            self.values[field] = _Given(text, where)

    def _unknown(self, entry: Entry, section: Section, known: Iterable[str]) -> None:
        where = self._line(entry.line)
        elsewhere = [name for name, keys in old_keys.SECTIONS.items() if entry.key in keys]
        if entry.key.lower() in KEYS:
            elsewhere.append(SECTION)
        hint = _meant(entry.key, known, nearness=1)
        if not hint and elsewhere and section.name in old_keys.SECTIONS:
            hint = f", it belongs in [{elsewhere[0]}]"
        hint = hint or _meant(entry.key, known)
        said = f"{where}: unknown key {entry.key} in [{section.name}]"
        if section.name in old_keys.SECTIONS:  # with which the v0.1 server ran
            self.warnings.append(f"{said} is ignored{hint}")
        else:  # it may be what protects: DENIED_DESTINATION
            self.complaints.append(f"{said}{hint}")

    def _entries(self, section: Section, known: tuple[str, ...]) -> dict[str, _Given]:
        """What is given in a section whose keys are *known* to be these."""
        found: dict[str, _Given] = {}
        for entry in section.entries:
            where = self._line(entry.line)
            key = entry.key.lower()
            if key not in known:
                self._unknown(entry, section, known)
            elif key in found:
                self.complaints.append(f"{where}: {entry.key} is there twice, also in {found[key].where}")
            else:
                found[key] = _Given(entry.value, where)
        return found

    def _switch(self, section: Section, name: str, where: str) -> None:
        found = self._entries(section, SWITCH_KEYS)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            self.complaints.append(
                f"{where}: [{section.name}]: the name of a switch is letters, digits, - and _"
            )
        elif "address" not in found:
            self.complaints.append(f"{where}: [{section.name}] has no address")
        values = {key: self._value(key, given) for key, given in found.items()}
        made = SwitchConfig(
            name=name,
            address=values.get("address") or "",
            password=values.get("password") or "",  # of the section or, later, FS_INBOUND_PASSWORD
        )
        self.switches[name] = (made, where)

    def _gateway(self, section: Section, prefix: str, where: str) -> None:
        found = self._entries(section, GATEWAY_KEYS)
        try:
            _prefix(prefix)
        except ValueError as error:
            self.complaints.append(f"{where}: [{section.name}]: {error}")
        values = {key: self._value(key, given) for key, given in found.items()}
        kept = {key: value for key, value in values.items() if value is not None}
        self.gateways[prefix] = (GatewayRules(prefix=prefix, **kept), where)

    # -- the environment -------------------------------------------------------------------------------

    def _environment(self, environ: Mapping[str, str]) -> None:
        names = {f"PLIVOTX_{field.upper()}": field for field in KEYS}
        for name, field in names.items():
            if name in environ:
                self.values[field] = _Given(environ[name], f"environment variable {name}")
        for name in sorted(environ):
            if name.startswith("PLIVOTX_") and name not in (*names, CLIENT_URL):
                meant = _meant(name, names, nearness=0.9)
                if meant:
                    self.complaints.append(f"unknown environment variable {name}{meant}")

    # -- the values ------------------------------------------------------------------------------------

    def _value(self, field: str, given: _Given) -> Any:
        """The value of a field; None if it cannot be used, which has been said then."""
        try:
            return _convert(field, given.text)
        except ValueError as error:
            shown = "..." if field in SECRETS else repr(without_credentials(given.text))
            key = field if field in (*SWITCH_KEYS, *GATEWAY_KEYS) else field.upper()  # as the docs write it
            self.complaints.append(f"{given.where}: {key} = {shown}: {error}")
            return None

    def _switches(self) -> tuple[SwitchConfig, ...]:
        """The switches that have sections of their own, with what is wrong between them complained of."""
        address = self.values.get("fs_inbound_address")
        if address and self.switches:
            name, (_, where) = next(iter(self.switches.items()))
            if address.where.startswith("environment"):
                self.warnings.append(
                    f"{address.where} replaces all sections [switch], such as [switch {name}] in {where}"
                )
                return ()
            self.complaints.append(
                f"{address.where}: FS_INBOUND_ADDRESS is for one switch, and {where} has [switch {name}]: "
                "give a switch one of the two"
            )
        password = self.values.get("fs_inbound_password")
        usual = password.text if password else Config().fs_inbound_password
        places: dict[tuple[str, int], tuple[str, str]] = {}
        for name, (switch, where) in self.switches.items():
            if switch.address not in ("", EMULATOR):
                host, port = split_address(switch.address.lower())
                place = ("127.0.0.1" if host == "localhost" else host, port)
                if place in places:
                    other, there = places[place]
                    self.complaints.append(
                        f"{where}: [switch {name}] has the address {switch.address} "
                        f"of [switch {other}] in {there}"
                    )
                places[place] = (name, where)
        return tuple(
            msgspec.structs.replace(each, password=each.password or usual)
            for each, _ in self.switches.values()
        )

    def _together(self, config: Config) -> None:
        """Complain of what is wrong only together with something else."""
        for field, why in _contradictions(config):
            where = f"{self.values[field].where}: " if field in self.values else ""
            self.complaints.append(f"{where}{field.upper()}: {why}")
        if self.old and not self.switches and "fs_inbound_address" not in self.values:
            self.warnings.append(f"{self.path}: no FS_INBOUND_ADDRESS: calls are made on the emulator")


def _contradictions(config: Config) -> Iterable[tuple[str, str]]:
    """Each field that does not go with the others or with what is on the disk, or opens the API, and why."""
    if bool(config.auth_id) != bool(config.auth_token):
        yield "auth_id" if config.auth_id else "auth_token", "AUTH_ID and AUTH_TOKEN: give both or neither"
    host, _ = split_address(config.http_address)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not config.auth_id and not config.auth_token:
        yield "http_address", f"{host} is beyond loopback, AUTH_ID and AUTH_TOKEN are required"
    if config.ssl and not config.ssl_cert:
        yield "ssl", "SSL_CERT is required, a file with the certificate and its private key"
    if config.ssl:
        why = _no_certificate(config.ssl_cert)
        if config.ssl_cert and why:
            yield "ssl_cert", why
    for folder in config.plugin_path:
        if not Path(folder).is_dir():
            yield "plugin_path", f"{folder} is no folder"


def _no_certificate(path: str) -> str:
    """Why this file cannot be one with a certificate and its key; empty if it can."""
    try:
        found = content(path)
    except (OSError, ValueError) as error:
        return f"{path} {_why(error)}"
    for kind in (b"CERTIFICATE", b"PRIVATE KEY"):
        if not re.search(rb"-----BEGIN [A-Z ]*" + kind + rb"-----", found):
            return f"{path} holds no {kind.decode()}"
    return ""


def _why(error: OSError | ValueError) -> str:
    """What is wrong with a file, without its name, which has been said."""
    return f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def content(path: str) -> bytes:
    """All of a file that an operator named; raises OSError, and ValueError for one that has no end (/dev/zero)."""
    with Path(path).open("rb") as file:
        found = file.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise ValueError(f"is longer than {MOST_BYTES} bytes")
    return found


# -- one value ---------------------------------------------------------------------------------------------


def _convert(field: str, text: str) -> Any:
    """The value of a field; raises ValueError."""
    if field in _ITEMS:
        items = [each.strip() for each in re.split(r"[,\n]", text)]
        if text.strip() and not any(items):  # else a list of what is allowed would allow everything
            raise ValueError("has no entry; leave it out or empty, if that is meant")
        return tuple(_ITEMS[field](_printable(each)) for each in items if each)
    _printable(text)
    default = _DEFAULTS.get(field)
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return text.lower() == "true"
    if isinstance(default, int | float):
        return _number(field, text, type(default))
    check = _CHECKS.get(field)
    if check is not None and (text or field in _NEEDED):
        check(text)
    return text


def _number(field: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        raise ValueError("is no whole number" if kind is int else "is no number") from None
    if not math.isfinite(number) or not _AT_LEAST[field] <= number <= MOST:
        raise ValueError(f"must be from {_AT_LEAST[field]:g} to {MOST}")
    return number


def _printable(text: str) -> str:
    if "\n" in text:
        raise ValueError("goes over several lines: a line that is indented continues the one above it")
    if any(ord(each) < 32 or ord(each) == 127 for each in text):
        raise ValueError("holds a control character")
    return text


def _switch_address(text: str) -> None:
    if text != EMULATOR and split_address(text)[1] == 0:
        raise ValueError("has a port that is none")


def _user(text: str) -> None:
    if ":" in text:
        raise ValueError("holds a colon, which HTTP Basic cannot carry")


def _method(text: str) -> None:
    if text not in ("GET", "POST"):
        raise ValueError("must be GET or POST")


def _proxy(text: str) -> None:
    scheme, _, address = text.partition("://")
    if scheme != "http":
        raise ValueError("must begin with http://")
    if "@" in address:
        raise ValueError("holds credentials, which are not sent")
    split_address(address.rstrip("/"))


def _url(text: str) -> None:
    if not text.startswith(("http://", "https://")) or not urlsplit(text).hostname:
        raise ValueError("must begin with http:// or https:// and a host")


def _log(text: str) -> None:
    if text == "sqlite:":
        raise ValueError("names no file")
    if not text.startswith(("sqlite:", "redis://", "memory:")):
        raise ValueError("must begin with sqlite:, redis:// or memory:")


def _network(text: str) -> str:
    """An address or a network in the one form in which others are compared with it."""
    try:
        network = as_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; expected an address or a network such as 10.0.0.0/8") from None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _folder(text: str) -> str:
    """A folder on the switch's host, in a form that can stand in a command for it."""
    if not re.fullmatch("/[A-Za-z0-9_.@/-]*", text) or ".." in text.split("/"):
        raise ValueError(f"{text} is no whole path of letters, digits and _ . @ -")
    return re.sub("/+", "/", text).rstrip("/") or "/"


def _prefix(text: str) -> str:
    found = re.search(r"[\s'\"()\[\]{}<>$|,]", text)
    if found:
        raise ValueError(f"{text!r} holds {found[0]!r}, which no gateway can")
    return text


def _destination(text: str) -> str:
    if not re.fullmatch(r"\+?[0-9A-Za-z*#]+", text):
        raise ValueError(f"{text!r} is no beginning of a number: a + and digits, letters, * and #")
    return text


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*.-]+", text):
        raise ValueError(f"{text!r} is no name of a channel variable, nor one with *")
    return text


def _cause(text: str) -> str:
    name = text.upper()
    if name in CAUSES:
        return name
    meant = f", did you mean {NAMES[int(text)]}?" if text.isdecimal() and int(text) in NAMES else ""
    raise ValueError(f"{text!r} is no hangup cause of FreeSWITCH{meant or _meant(name, CAUSES)}")


_DEFAULTS: dict[str, Any] = {**msgspec.structs.asdict(Config()), **msgspec.structs.asdict(GatewayRules())}
_ITEMS: dict[str, Callable[[str], str]] = {
    "allowed_ips": _network,
    "application_networks": _network,
    "allowed_gateways": _prefix,
    "allowed_destinations": _destination,
    "denied_destinations": _destination,
    "allowed_variables": _variable,
    "stop_causes": _cause,
    "plugin_path": str,
    "extra_fs_vars": str,
    "play_folders": _folder,
    "record_folders": _folder,
}
_CHECKS: dict[str, Callable[[str], object]] = {
    "http_address": split_address,
    "fs_inbound_address": _switch_address,
    "address": _switch_address,
    "auth_id": _user,
    "default_http_method": _method,
    "default_answer_url": _url,
    "default_hangup_url": _url,
    "proxy_url": _proxy,
    "log": _log,
}
_NEEDED = ("http_address", "fs_inbound_address", "address", "default_http_method", "log")
"""What may not be empty."""


def _meant(text: str, known: Iterable[str], nearness: float = 0.75) -> str:
    """A question that names the nearest of *known*; empty if none is near."""
    cases = {each.upper(): each for each in known}
    found = difflib.get_close_matches(text.upper(), cases, 1, nearness)
    return f", did you mean {cases[found[0]]}?" if found else ""
