"""What the keys of a configuration file of the v0.1 server mean here."""

from typing import NamedTuple


class Meaning(NamedTuple):
    """What becomes of an old key; neither of the two: it is not needed any more."""

    field: str = ""
    """The field of our configuration that it gives the value to."""
    lacking: str = ""
    """What it asks for and plivotx does not do: the operator is warned."""


_UNUSED = Meaning()
_PROCESS = dict.fromkeys(
    (
        "USER",
        "GROUP",
        "TRACE",
        "LOG_LEVEL",
        "LOG_TYPE",
        "LOG_FILE",
        "SYSLOG_ADDRESS",
        "SYSLOG_FACILITY",
        "HTTP_LOG_URL",
        "HTTP_LOG_METHOD",
        "HTTP_LOG_FILE_FAILURE",
    ),
    _UNUSED,
)
"""Keys of each process of the old server: twistd has options for these things."""
_NO_CACHE = "there is no cache: sounds are fetched by FreeSWITCH itself"

SECTIONS: dict[str, dict[str, Meaning]] = {
    "common": {
        "DEFAULT_ANSWER_URL": Meaning("default_answer_url"),
        "DEFAULT_HANGUP_URL": Meaning("default_hangup_url"),
        "DEFAULT_HTTP_METHOD": Meaning("default_http_method"),
        "EXTRA_FS_VARS": Meaning("extra_fs_vars"),
        "AUTH_ID": Meaning("auth_id"),
        "AUTH_TOKEN": Meaning("auth_token"),
        "PROXY_URL": Meaning("proxy_url"),
        "CACHE_URL": Meaning(lacking=_NO_CACHE),
        "CACHE_SCRIPT": Meaning(lacking=_NO_CACHE),
        "JSON_CONFIG_URL": Meaning(
            lacking="no configuration is fetched: what counts is this file, which the old server ignored then"
        ),
    },
    "rest_server": {
        "HTTP_ADDRESS": Meaning("http_address"),
        "FS_INBOUND_ADDRESS": Meaning("fs_inbound_address"),
        "FS_INBOUND_PASSWORD": Meaning("fs_inbound_password"),
        "ALLOWED_IPS": Meaning("allowed_ips"),
        "SSL": Meaning("ssl"),
        "SSL_CERT": Meaning("ssl_cert"),
        "CALL_HEARTBEAT_URL": Meaning(lacking="the heartbeats of calls are told to nobody"),
        "RECORD_URL": Meaning(lacking="the end of a recording is told to nobody"),
        "SECRET_KEY": _UNUSED,
        "WSGI_MODE": _UNUSED,
        **_PROCESS,
    },
    "outbound_server": {
        "FS_OUTBOUND_ADDRESS": Meaning(
            lacking="nothing listens there: incoming calls that a dialplan hands over are not taken"
        ),
        **_PROCESS,
    },
    "cache_server": {
        "HTTP_ADDRESS": Meaning(lacking="nothing listens there: " + _NO_CACHE),
        **dict.fromkeys(
            (
                "ALLOWED_IPS",
                "HTTP_TIMEOUT",
                "PROXY_URL",
                "REDIS_DB",
                "REDIS_HOST",
                "REDIS_PASSWORD",
                "REDIS_PORT",
                "SECRET_KEY",
                "WSGI_MODE",
            ),
            _UNUSED,
        ),
        **_PROCESS,
    },
}
