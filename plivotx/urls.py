"""What a URL must be to be requested exactly as it stands.  Pure."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

MAX_LENGTH = 2048

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
"""What a host name may be; Twisted can't look up one with an underscore."""


@lru_cache(maxsize=256)  # an application has few of them
def complaint(url: str) -> str:
    """What is wrong with *url*, as the end of a sentence; empty if nothing is."""
    if len(url) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if not url.startswith(("http://", "https://")):
        return "does not begin with http:// or https://"
    if not re.fullmatch(r"[!-~]+", url):
        return "holds a blank, a control character or one beyond ASCII; percent-encode it"
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        return "holds a % that encodes nothing"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if "@" in parts.netloc:
        return "holds credentials, which are not sent"
    if port == 0 or parts.netloc.endswith(":"):
        return "has a port that is none"
    if not _HOST.fullmatch(parts.hostname or "") and not _is_ipv6(parts.netloc):
        return "does not name a host"
    return ""


def _is_ipv6(netloc: str) -> bool:
    found = re.fullmatch(r"\[([^]]*)\](?::[0-9]+)?", netloc)
    try:
        return bool(found and ipaddress.IPv6Address(found[1]).scope_id is None)
    except ValueError:
        return False
