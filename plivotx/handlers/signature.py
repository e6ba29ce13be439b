"""How a request to the application is made up and signed, as the v0.1 API has it.  Pure.

X-PLIVO-SIGNATURE is the base64 of HMAC-SHA1, keyed with AUTH_TOKEN, over the URL followed by each
parameter's name and value in ascending order of the names.
"""

import hashlib
import hmac
from base64 import b64encode
from functools import lru_cache
from urllib.parse import parse_qsl, quote_plus

import msgspec

from plivotx.events import Pairs


class Prepared(msgspec.Struct, frozen=True):
    """A request ready to be sent."""

    url: str
    body: bytes | None
    params: dict[str, str]
    """Everything that is signed: the parameters and those of the URL's own query."""


def prepare(method: str, url: str, params: Pairs) -> Prepared:
    """Put *params* where *method* has them.

    The parameters of the URL's own query are sent along (the last of several with one name, blank
    values left out), as before; but one that has the name of a parameter of ours does not replace it.
    """
    bare, mark, query = url.partition("#")[0].partition("?")
    merged = {**dict(parse_qsl(query)), **dict(params)} if query else dict(params)
    if method == "GET":
        return Prepared(f"{bare}?{_encoded(merged)}" if merged else bare + mark, None, merged)
    return Prepared(url, _encoded(merged).encode("ascii"), merged)


_quoted = lru_cache(maxsize=1024)(quote_plus)
"""Names are always the same, and a number or UUID is told several times in a call."""


def _encoded(params: dict[str, str]) -> str:
    """The parameters as a form or a query has them."""
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in params.items()])


def sign(token: str, url: str, params: dict[str, str]) -> str:
    """The value of X-PLIVO-SIGNATURE for a request to *url* that carries *params*."""
    text = url + "".join(name + params[name] for name in sorted(params))
    return b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode("ascii")
