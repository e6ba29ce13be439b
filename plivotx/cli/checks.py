"""The commands that ask no server: whether a document is good, and whether a configuration is."""

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from plivotx import config_file, urls
from plivotx import plugins as plugin_loader
from plivotx.checking import Unusable, checked, findings
from plivotx.cli.client import Failed, Misused, Unreachable, Wrong
from plivotx.config import Config, ConfigError
from plivotx.handlers.http import decode_document
from plivotx.plugins import PluginError
from plivotx.restxml.document import DocumentError, parse


def check(path: str | None, environ: Mapping[str, str] = os.environ) -> tuple[list[str], dict[str, Any]]:
    """What `twistd plivotx --check` finds in a configuration that can be used.  Raises Failed with all that is wrong."""
    try:
        loaded, plugins = checked(path, environ)
    except Unusable as error:
        raise Failed(
            "\n".join(error.complaints),
            {"Success": False, "Message": "the configuration cannot be used", "Complaints": error.complaints},
        ) from None
    found = findings(path, loaded, plugins)
    message = found[-1]
    return found, {
        "Success": True,
        "Message": message,
        "Findings": found[:-1],
        "Warnings": list(loaded.warnings),
    }


def lint(
    source: str,
    config_path: str | None,
    plugin_path: list[str],
    method: str,
    params: Mapping[str, str],
    timeout: float,
    environ: Mapping[str, str] = os.environ,
) -> tuple[list[str], dict[str, Any]]:
    """Read a document as the server would, with the verbs it would know.

    *source* is a file, ``-`` for standard input, or a URL, which is requested by *method* with *params*.  Raises Failed for
    a document that cannot be run, with its place; Unreachable, Misused.
    """
    try:
        config = config_file.load(config_path, environ).config
        folders = [plugin_loader.shipped(), *map(Path, (*config.plugin_path, *plugin_path))]
        verbs = plugin_loader.load(folders, config).verbs
    except (ConfigError, PluginError) as error:
        raise Failed(str(error)) from None
    body = _body(source, method, params, timeout, config)
    name = "standard input" if source == "-" else source
    try:
        text = decode_document(body)
    except ValueError as error:
        raise _wrong(name, 1, 1, str(error)) from None
    if not text.strip():
        return [f"{name}: good, and empty: there is nothing to do"], _good(name, [])
    try:
        document = parse(text, verbs, config)
    except DocumentError as error:
        raise _wrong(name, error.line, error.column, error.why) from None
    names = [type(each).__name__ for each in document]
    count = "1 verb" if len(names) == 1 else f"{len(names)} verbs"
    listed = f": {', '.join(names)}" if names else ""
    return [f"{name}: good, {count}{listed}"], _good(name, names)


def _good(name: str, verbs: list[str]) -> dict[str, Any]:
    return {"Success": True, "Message": "the document is good", "Source": name, "Verbs": verbs}


def _wrong(name: str, line: int, column: int, why: str) -> Wrong:
    """As compilers say it, so that editors find the place."""
    message = f"{name}:{line}:{column}: {why}"
    return Wrong(
        message,
        {"Success": False, "Message": message, "Source": name, "Line": line, "Column": column, "Why": why},
    )


def _body(source: str, method: str, params: Mapping[str, str], timeout: float, config: Config) -> bytes:
    """The bytes of the document.  Raises Failed if there are more than the server reads."""
    most = config.max_document_bytes
    try:
        if source.startswith(("http://", "https://")):
            body = _in_time(partial(_requested, source, method, params, timeout, most), source, timeout)
        elif source == "-":
            if not sys.stdin:
                raise Misused("standard input is closed")
            body = sys.stdin.buffer.read(most + 1)
        else:
            with Path(source).open("rb") as file:
                body = file.read(most + 1)
    except OSError as error:
        raise Misused(f"{source} cannot be read: {error.strerror or error}") from None
    if len(body) > most:
        raise Failed(f"{source}: longer than {most} bytes (MAX_DOCUMENT_BYTES)")
    return body


def _in_time(request: Callable[[], bytes], url: str, seconds: float) -> bytes:
    """What *request* gives or raises; Unreachable after *seconds*, for the time-out of a socket begins anew with each byte."""
    came: Future[bytes] = Future()

    def run() -> None:
        try:
            came.set_result(request())
        except Exception as error:
            came.set_exception(error)

    Thread(target=run, daemon=True).start()  # nobody waits for it when the program ends
    try:
        return came.result(seconds)
    except TimeoutError:
        raise Unreachable(f"{url} cannot be reached: no whole answer within {seconds:g} s") from None


def _requested(url: str, method: str, params: Mapping[str, str], timeout: float, most: int) -> bytes:
    complaint = urls.complaint(url)
    if complaint:
        raise Misused(f"{url!a} {complaint}")
    form = urlencode(params)
    if method == "GET" and form:
        url += ("&" if "?" in url else "?") + form
    request = Request(  # noqa: S310 - http and https only, as was looked at
        url,
        form.encode() if method == "POST" else None,
        {"User-Agent": "plivotx-cli"},
        method=method,
    )
    try:
        with urlopen(request, timeout=timeout) as response:  # noqa: S310 - the same
            body: bytes = response.read(most + 1)
            return body
    except HTTPError as error:
        error.close()
        raise Failed(f"{url}: status {error.code}, so the server would find no document") from None
    except (URLError, OSError, ValueError) as error:
        raise Unreachable(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from None
