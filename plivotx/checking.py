"""Whether a server can run on a configuration, for `twistd plivotx` and `plivotx check`."""

import re
from collections.abc import Mapping
from pathlib import Path

from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate, CertificateOptions

from plivotx import config_file
from plivotx import plugins as plugin_loader
from plivotx.config import ConfigError, without_credentials
from plivotx.config_file import Loaded, content
from plivotx.handlers.agent import trusted
from plivotx.plugins import PluginError, Plugins


class Unusable(Exception):
    """No server can run on the configuration; *complaints* has a line for each reason."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = complaints


def checked(path: str | None, environ: Mapping[str, str]) -> tuple[Loaded, Plugins]:
    """Configuration and plugins, once certificates are looked at as well.  Raises Unusable with all that is wrong."""
    try:
        loaded = config_file.load(path, environ)
    except ConfigError as error:
        raise Unusable(str(error).splitlines()) from error
    config, complaints = loaded.config, []
    plugins = None
    try:
        plugins = plugin_loader.load([plugin_loader.shipped(), *map(Path, config.plugin_path)], config)
    except PluginError as error:
        complaints.append(str(error))
    try:
        if config.ssl:
            certificate(config.ssl_cert)
    except ConfigError as error:
        complaints.append(f"{loaded.place('ssl_cert')}{error}")
    try:
        trusted(config)
    except ConfigError as error:
        complaints.append(f"{loaded.place('http_ca_file')}{error}")
    if plugins is None or complaints:
        raise Unusable(complaints)
    return loaded, plugins


def certificate(path: str) -> CertificateOptions:
    """What this PEM file holds: the server's certificate, those that lead to its root, and its key.

    Raises ConfigError.
    """
    why = ""
    try:
        blocks = re.findall(rb"(-----BEGIN ([A-Z ]+)-----.*?-----END \2-----)", content(path), re.DOTALL)
        certificates = [each for each, kind in blocks if kind == b"CERTIFICATE"]
        keys = [each for each, kind in blocks if kind.endswith(b"PRIVATE KEY")]
        if not certificates or len(keys) != 1:
            raise ValueError(
                f"it has {len(certificates)} of CERTIFICATE and {len(keys)} of PRIVATE KEY, of which one is needed"
            )
        why = "a certificate in it cannot be read"
        own, *chain = [Certificate.loadPEM(each).original for each in certificates]
        why = "its key cannot be read without a passphrase or at all"
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, keys[0], b"")  # with none it would ask for one
        why = "its first certificate and its key do not fit each other or cannot be used"
        options = CertificateOptions(privateKey=key, certificate=own, extraCertChain=chain)
        options.getContext()
    except (OSError, ValueError, crypto.Error, SSL.Error) as error:
        said = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if isinstance(error, crypto.Error | SSL.Error):
            said = f"{why} (OpenSSL: {_openssl(error)})"
        raise ConfigError(f"SSL_CERT: {path} is no certificate with its private key: {said}") from error
    return options


def _openssl(error: crypto.Error | SSL.Error) -> str:
    """What OpenSSL found wrong: it gives a list of library, function and reason."""
    found = error.args[0] if error.args else ()
    return ", ".join(each[2] for each in found) if isinstance(found, list) and found else "no reason"


def findings(path: str | None, loaded: Loaded, plugins: Plugins) -> list[str]:
    """What --check says of a configuration that can be used; without any password."""
    config = loaded.config
    scheme = "https" if config.ssl else "http"
    access = "credentials required" if config.auth_id else "no credentials required"
    clients = ", ".join(config.allowed_ips) or "everywhere"
    return [
        f"configuration: {path or 'no file'}",
        f"API: {scheme}://{config.http_address}/v0.1/, {access}, from {clients}",
        *(f"switch {each.name}: {each.address}" for each in config.switches),
        f"log: {without_credentials(config.log)}",
        *(f"plugin: {each}" for each in plugins.files),
        *(f"gateways {each.prefix or '(all)'}: rules of their own" for each in config.gateways),
        *(f"warning: {each}" for each in loaded.warnings),
        *(f"note: {each}" for each in loaded.notes),
        "the configuration is good",
    ]
