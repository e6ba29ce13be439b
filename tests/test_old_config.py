"""A configuration file of the v0.1 server works here, and what it asks for in vain is named."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config, ConfigError, SwitchConfig
from plivotx.config_file import KEYS, Loaded, load
from plivotx.old_keys import SECTIONS

OLD = """\
# The whole of a server as it was run for years: both processes in one file.

[common]
; where incoming calls go
DEFAULT_ANSWER_URL = http://127.0.0.1:5000/answered/
DEFAULT_HANGUP_URL = http://127.0.0.1:5000/hangup/
DEFAULT_HTTP_METHOD = POST
EXTRA_FS_VARS = variable_user_context,
    Channel-Read-Codec-Bit-Rate ; two of them
AUTH_ID = ACME0001 ; both are also the key of the signature
AUTH_TOKEN = 50%%;off#1
PROXY_URL = http://127.0.0.1:3128
CACHE_URL = http://127.0.0.1:8089
CACHE_SCRIPT = /usr/share/freeswitch/scripts/cache.lua
JSON_CONFIG_URL = ""

[rest_server]
HTTP_ADDRESS: 0.0.0.0:8088
SECRET_KEY = 9f%86d081
FS_INBOUND_ADDRESS: 10.0.0.5:8021
FS_INBOUND_PASSWORD: ClueCon%%=:
ALLOWED_IPS = 127.0.0.1, 10.0.0.9
CALL_HEARTBEAT_URL = http://127.0.0.1:5000/heartbeat/
RECORD_URL = http://127.0.0.1:5000/record/
SSL = false
SSL_CERT =
WSGI_MODE = pywsgi
USER = voice
GROUP = voice
TRACE = false
LOG_LEVEL = INFO
LOG_TYPE = syslog
SYSLOG_ADDRESS = /dev/log
SYSLOG_FACILITY = local0
LOGFILE = /var/log/rest.log

[outbound_server]
FS_OUTBOUND_ADDRESS = 127.0.0.1:8084
LOG_LEVEL = DEBUG
LOG_TYPE = file
LOG_FILE = /var/log/outbound.log
"""


class Old(SynchronousTestCase):
    def setUp(self):
        self.path = self.mktemp()

    def read(self, text, **environ):
        Path(self.path).write_text(text, encoding="utf-8")
        config, *said, _ = load(self.path, environ)
        return Loaded(config, *(tuple(each.replace(self.path, "FILE") for each in which) for which in said))

    def complaints(self, text):
        error = self.assertRaises(ConfigError, self.read, text)
        return str(error).replace(self.path, "FILE").split("\n")


class AWholeFile(Old):
    def test_gives_what_it_says(self):
        config = self.read(OLD).config
        self.assertEqual(
            config,
            Config(
                http_address="0.0.0.0:8088",
                fs_inbound_address="10.0.0.5:8021",
                fs_inbound_password="ClueCon%=:",
                auth_id="ACME0001",
                auth_token="50%;off#1",
                allowed_ips=("127.0.0.1", "10.0.0.9"),
                default_http_method="POST",
                default_answer_url="http://127.0.0.1:5000/answered/",
                default_hangup_url="http://127.0.0.1:5000/hangup/",
                proxy_url="http://127.0.0.1:3128",
                extra_fs_vars=("variable_user_context", "Channel-Read-Codec-Bit-Rate"),
            ),
        )
        self.assertEqual(
            config.switches, (SwitchConfig(name="default", address="10.0.0.5:8021", password="ClueCon%=:"),)
        )

    def test_has_exactly_these_warnings(self):
        self.assertEqual(
            self.read(OLD).warnings,
            (
                "FILE, line 13: CACHE_URL: there is no cache: sounds are fetched by FreeSWITCH itself",
                "FILE, line 14: CACHE_SCRIPT: there is no cache: sounds are fetched by FreeSWITCH itself",
                "FILE, line 23: CALL_HEARTBEAT_URL: the heartbeats of calls are told to nobody",
                "FILE, line 24: RECORD_URL: the end of a recording is told to nobody",
                "FILE, line 35: unknown key LOGFILE in [rest_server] is ignored, did you mean LOG_FILE?",
                (
                    "FILE, line 38: FS_OUTBOUND_ADDRESS: "
                    "nothing listens there: incoming calls that a dialplan hands over are not taken"
                ),
            ),
        )

    def test_names_in_one_line_what_is_not_needed(self):
        self.assertEqual(
            self.read(OLD).notes,
            (
                (
                    "FILE: not needed by plivotx: JSON_CONFIG_URL (line 15), SECRET_KEY (line 19), "
                    "WSGI_MODE (line 27), USER (line 28), GROUP (line 29), TRACE (line 30), LOG_LEVEL (line 31), "
                    "LOG_TYPE (line 32), SYSLOG_ADDRESS (line 33), SYSLOG_FACILITY (line 34), "
                    "LOG_LEVEL (line 39), LOG_TYPE (line 40), LOG_FILE (line 41)"
                ),
            ),
        )

    def test_can_have_our_keys_behind_it_and_the_environment_before_it(self):
        config = self.read(OLD + "[plivotx]\nLOG = memory:\n", PLIVOTX_AUTH_TOKEN="t%%").config
        self.assertEqual((config.log, config.auth_token, config.auth_id), ("memory:", "t%%", "ACME0001"))


class OldKeys(Old):
    def test_are_ours_or_lacking_or_not_needed(self):
        for section, keys in SECTIONS.items():
            for key, meaning in keys.items():
                self.assertFalse(meaning.field and meaning.lacking, f"{section} {key}")
                self.assertIn(meaning.field, ("", *KEYS))
                if not meaning.field:
                    header = "" if section == "rest_server" else f"[{section}]\n"
                    loaded = self.read(f"[rest_server]\nFS_INBOUND_ADDRESS = a:1\n{header}{key} = x\n")
                    self.assertEqual(loaded.config, Config(fs_inbound_address="a:1"))
                    (said,) = loaded.warnings or loaded.notes
                    self.assertIn(key, said)

    def test_that_ask_for_nothing_are_not_warned_of(self):
        loaded = self.read(
            '[common]\nCACHE_URL =\n[rest_server]\nFS_INBOUND_ADDRESS = a:1\nRECORD_URL = ""\n'
        )
        self.assertEqual(loaded.warnings, ())
        self.assertEqual(
            loaded.notes, ("FILE: not needed by plivotx: CACHE_URL (line 2), RECORD_URL (line 5)",)
        )

    def test_of_the_cache_are_not_taken_for_ours(self):
        loaded = self.read("[cache_server]\nHTTP_ADDRESS = 0.0.0.0:8089\nALLOWED_IPS = x\nHTTP_TIMEOUT = 9\n")
        self.assertEqual(loaded.config, Config())
        self.assertIn("FILE, line 2: HTTP_ADDRESS: nothing listens there", loaded.warnings[0])

    def test_are_refused_where_ours_say_the_same(self):
        self.assertEqual(
            self.complaints(
                "[common]\nAUTH_ID = a\n[plivotx]\nauth_id = a\nAUTH_TOKEN = b\nssl = true\n"
                "[rest_server]\nSSL = false\nFS_INBOUND_ADDRESS = a:1\n[switch b]\naddress = b:1\n"
            ),
            [
                "FILE, line 4: auth_id is there twice, also in FILE, line 2",
                "FILE, line 8: SSL is there twice, also in FILE, line 6",
                (
                    "FILE, line 9: FS_INBOUND_ADDRESS is for one switch, and FILE, line 10 has [switch b]: "
                    "give a switch one of the two"
                ),
                "FILE, line 6: SSL: SSL_CERT is required, a file with the certificate and its private key",
            ],
        )

    def test_are_refused_with_a_percent_sign_that_stands_alone(self):
        for value in ("50%", "%(AUTH_ID)s", "a%%%b"):
            self.assertEqual(
                self.complaints(f"[common]\nAUTH_TOKEN = {value}\nAUTH_ID = a\n")[0],
                "FILE, line 2: AUTH_TOKEN: in [common] a % is written %%",
            )

    def test_are_refused_with_values_that_cannot_be_used_like_ours(self):
        self.assertEqual(
            self.complaints(
                "[common]\nDEFAULT_HTTP_METHOD = post\nAUTH_ID = a\n"
                "[rest_server]\nHTTP_ADDRESS = 10.0.0.1:1\nSSL = true\nSSL_CERT = /nowhere.pem\n"
            ),
            [
                "FILE, line 2: DEFAULT_HTTP_METHOD = 'post': must be GET or POST",
                "FILE, line 3: AUTH_ID: AUTH_ID and AUTH_TOKEN: give both or neither",
                "FILE, line 7: SSL_CERT: /nowhere.pem cannot be read: No such file or directory",
            ],
        )

    def test_without_a_switch_among_them_are_warned_of(self):
        warning = ("FILE: no FS_INBOUND_ADDRESS: calls are made on the emulator",)
        self.assertEqual(self.read("[rest_server]\nHTTP_ADDRESS = 127.0.0.1:1\n").warnings, warning)
        self.assertEqual(self.read("[common]\n[switch a]\naddress = a:1\n").warnings, ())
        self.assertEqual(self.read("[common]\n", PLIVOTX_FS_INBOUND_ADDRESS="a:1").warnings, ())

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f")))
    def test_carry_any_password(self, password):
        if any(char.isspace() or ord(char) < 32 or 127 <= ord(char) < 161 for char in password):
            return
        quoted = password.replace("%", "%%")
        loaded = self.read(f"[rest_server]\nFS_INBOUND_ADDRESS=a:1\nFS_INBOUND_PASSWORD = {quoted}\n")
        taken = "" if password == '""' or password.startswith(";") else password
        self.assertEqual(loaded.config.fs_inbound_password, taken)
