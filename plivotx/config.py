"""The configuration: one frozen value, read once from an INI file and the environment.

Every complaint is made at once, each with its file and line.  Files of the v0.1 server are read as well.
"""

import difflib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from plivotx import old_keys
from plivotx.causes import CAUSES, NAMES
from plivotx.ini import Entry, Section, parse

EMULATOR = "emulator"
"""The address of a switch within plivotx, without telephones."""
DEFAULT_SWITCH = "default"
"""The name of the only switch, where no section names one."""


class ConfigError(Exception):
    """The configuration cannot be used; one line for each complaint."""


class SwitchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One FreeSWITCH, or an emulated one."""

    name: str
    address: str
    """``host:port`` of its event socket, or ``emulator``."""
    password: str

    def __repr__(self) -> str:
        return f"SwitchConfig(name={self.name!r}, address={self.address!r})"


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
    ssl: bool = False
    ssl_cert: str = ""
    """File with the certificate, its chain and its private key."""
    fs_inbound_address: str = EMULATOR
    """host:port of FreeSWITCH's event socket, or ``emulator``."""
    fs_inbound_password: str = "ClueCon"
    auth_id: str = ""
    auth_token: str = ""
    allowed_ips: tuple[str, ...] = ()
    """Addresses and networks of clients, each in its one form; see `within`."""
    log: str = "sqlite:var/plivotx.sqlite"
    """``sqlite:PATH``, ``redis://HOST:PORT/DB`` or ``memory:``."""
    plugin_path: tuple[str, ...] = ()
    default_http_method: str = "POST"
    default_answer_url: str = ""
    """AnswerUrl of incoming calls that bring none of their own."""
    default_hangup_url: str = ""
    """HangupUrl of incoming calls that bring none of their own."""
    max_call_duration: int = 14_400
    """Seconds from the answer; also the longest TimeLimit that has an effect."""
    backstop_margin: int = 5
    """Seconds by which the switch's own limits come later than ours."""
    dial_patience: int = 120
    """Seconds that an accepted call waits for its switch to be connected before it is given up."""
    allowed_gateways: tuple[str, ...] = ()
    """Gateways that requests may name, one that ends in ``*`` for all that begin so; see `may_dial`."""
    allowed_destinations: tuple[str, ...] = ()
    """Beginnings of the numbers that may be dialled; see `may_dial`."""
    denied_destinations: tuple[str, ...] = ()
    """Beginnings of those that may not, even if they are allowed."""
    allowed_variables: tuple[str, ...] = ()
    """Channel variables that execute something or lead elsewhere and may be set all the same, with ``*``; see `may_set`."""
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
    named_switches: tuple[SwitchConfig, ...] = ()
    """The sections ``[switch NAME]``; what there is to connect to says `switches`."""
    gateways: tuple[GatewayRules, ...] = ()
    """The sections ``[gateway PREFIX]``; which one counts says `rules`."""

    def __repr__(self) -> str:
        shown = (f"{key}={getattr(self, key)!r}" for key in self.__struct_fields__ if key not in _SECRETS)
        return without_credentials(f"Config({', '.join(shown)})")

    @property
    def switches(self) -> tuple[SwitchConfig, ...]:
        """All switches; without a section for any, the one of FS_INBOUND_ADDRESS."""
        return self.named_switches or (
            SwitchConfig(
                name=DEFAULT_SWITCH, address=self.fs_inbound_address, password=self.fs_inbound_password
            ),
        )

    def rules(self, prefix: str) -> GatewayRules:
        """How the gateway with this dial-string prefix is treated; FreeSWITCH does not mind its letters' case."""
        fitting = [each for each in self.gateways if prefix.lower().startswith(each.prefix.lower())]
        return max(fitting, key=lambda each: len(each.prefix), default=GatewayRules())

    def may_dial(self, prefix: str, number: str) -> str:
        """Why *number* may not be dialled through the gateway with this dial-string prefix; empty if it may.

        The reason begins with the parameter that is wrong, Gateways or To.  What a prefix has beyond its
        gateway is dialled too and counts, unless the operator has listed that very prefix.
        """
        listed = prefix in self.allowed_gateways and "*" not in prefix
        if self.allowed_gateways and not listed and not _fits_one(prefix, self.allowed_gateways):
            return "Gateways is not among those that may be used here"
        if not (self.denied_destinations or self.allowed_destinations):
            return ""
        beyond = "" if listed else _beyond_gateway(prefix)
        # some kinds of endpoints have parts of their own there: freetdm/1/a/NUMBER, loopback/NUMBER/CONTEXT
        dialled = [_digits(each + number) for each in {beyond, beyond.rpartition("/")[2]}]
        if any(each.startswith(self._denied) for each in dialled):
            return "To is a destination that may not be dialled here"
        if self.allowed_destinations and not all(each.startswith(self._allowed) for each in dialled):
            return "To is not among the destinations that may be dialled here"
        return ""

    @property
    def _denied(self) -> tuple[str, ...]:
        return tuple(map(_digits, self.denied_destinations))

    @property
    def _allowed(self) -> tuple[str, ...]:
        return tuple(map(_digits, self.allowed_destinations))

    def may_set(self, variable: str) -> bool:
        """Whether a request may set this channel variable though it executes something or leads elsewhere."""
        # FreeSWITCH finds a variable whatever the case of its letters
        return _fits_one(variable.lower(), tuple(each.lower() for each in self.allowed_variables))

    def may_ask(self, address: str) -> str:
        """Why no request goes to the application at this IP address; empty if it may."""
        if not self.application_networks or within(address, self.application_networks):
            return ""
        return f"{address} is in none of APPLICATION_NETWORKS"


class Loaded(NamedTuple):
    """A configuration that can be used, and what its operator should hear of all the same."""

    config: Config
    warnings: tuple[str, ...] = ()
    """What stands there and is not done, each with its file and line."""
    notes: tuple[str, ...] = ()
    """What stands there, was of use to the v0.1 server, and is not needed."""


SECTION = "plivotx"
KEYS: tuple[str, ...] = tuple(
    each for each in Config.__struct_fields__ if each not in ("named_switches", "gateways")
)
"""The keys of [plivotx], which are those of the environment as well, in lower case."""
SWITCH_KEYS = ("address", "password")
GATEWAY_KEYS = tuple(each for each in GatewayRules.__struct_fields__ if each != "prefix")
MOST = 10**9
"""No number is larger."""
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
_SECRETS = ("auth_token", "fs_inbound_password", "password")


CLIENT_URL = "PLIVOTX_URL"
"""The one variable of the environment that is the client's (`plivotx.cli`) and no key of the server."""


def load(path: str | None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read *path* (None: defaults only); ``PLIVOTX_KEY`` in *environ* goes before the file.

    Raises ConfigError with a line for each thing that is wrong.
    """
    return _Reading(path).everything(environ)


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` in two; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def within(address: str, networks: Iterable[str]) -> bool:
    """Whether an IP address is one of *networks* or in one; IPv4 within IPv6 counts as IPv4.

    What is no address is in none.
    """
    try:
        single = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(single, ipaddress.IPv6Address) and single.ipv4_mapped:
        single = single.ipv4_mapped
    return any(single in _as_network(each) for each in networks)


def without_credentials(text: str) -> str:
    """*text* with the user and password of each URL in it left out."""
    return re.sub(r"://[^\s'\"]*@", "://...@", text)


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
        return Loaded(config, tuple(self.warnings), tuple(notes))

    # -- the file --------------------------------------------------------------------------------------

    def _line(self, number: int) -> str:
        return f"{self.path}, line {number}"

    def _file(self) -> None:
        try:
            text = Path(str(self.path)).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeError) as error:
            self.complaints.append(f"{self.path}: {error}")
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
            shown = "..." if field in _SECRETS else repr(without_credentials(given.text))
            self.complaints.append(f"{given.where}: {field.upper()} = {shown}: {error}")
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
        content = Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error}"
    for kind in (b"CERTIFICATE", b"PRIVATE KEY"):
        if not re.search(rb"-----BEGIN [A-Z ]*" + kind + rb"-----", content):
            return f"{path} holds no {kind.decode()}"
    return ""


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
        network = _as_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; expected an address or a network such as 10.0.0.0/8") from None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


@lru_cache(maxsize=1024)
def _as_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped and network.prefixlen >= 96:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


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


# -- what may be dialled -----------------------------------------------------------------------------------


def _fits_one(text: str, patterns: Iterable[str]) -> bool:
    """Whether *text* is one of *patterns*, in which ``*`` stands for anything."""
    return any(re.fullmatch(".*".join(map(re.escape, each.split("*"))), text, re.DOTALL) for each in patterns)


def _beyond_gateway(prefix: str) -> str:
    """What a dial-string prefix has after its gateway, profile or kind of endpoint: it is dialled before To."""
    parts = prefix.split("/")
    kind = [each.lower() for each in parts[:2]]
    named = 3 if kind == ["sofia", "gateway"] else 2 if kind[0] == "sofia" else 1
    return "/".join(parts[named:])


def _digits(number: str) -> str:
    """A number as it is compared: no ``sip:`` before it, no ``+`` and nothing that only parts its digits."""
    bare = re.sub(r"^(?:sips?|tel):", "", unquote(number).lower())
    return re.sub(r"[-._ ()+]", "", bare)


def _meant(text: str, known: Iterable[str], nearness: float = 0.75) -> str:
    """A question that names the nearest of *known*; empty if none is near."""
    cases = {each.upper(): each for each in known}
    found = difflib.get_close_matches(text.upper(), cases, 1, nearness)
    return f", did you mean {cases[found[0]]}?" if found else ""
