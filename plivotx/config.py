"""The configuration as one frozen value, and what it allows.  Pure; `plivotx.config_file` reads it."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

import msgspec

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
    """Addresses and networks of clients, each in its one form; see `is_within`."""
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
        shown = (f"{key}={getattr(self, key)!r}" for key in self.__struct_fields__ if key not in SECRETS)
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
        if not self.application_networks or is_within(address, self.application_networks):
            return ""
        return f"{address} is in none of APPLICATION_NETWORKS"


SECRETS = ("auth_token", "fs_inbound_password", "password")
"""Fields that are never shown."""


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` in two; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an IP address is one of *networks* or in one; IPv4 within IPv6 counts as IPv4.

    What is no address is in none.
    """
    try:
        single = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(single, ipaddress.IPv6Address) and single.ipv4_mapped:
        single = single.ipv4_mapped
    return any(single in as_network(each) for each in networks)


def without_credentials(text: str) -> str:
    """*text* with the user and password of each URL in it left out."""
    return re.sub(r"://[^\s'\"]*@", "://...@", text)


@lru_cache(maxsize=1024)
def as_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or a network, IPv4 within IPv6 as IPv4; raises ValueError."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped and network.prefixlen >= 96:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


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
