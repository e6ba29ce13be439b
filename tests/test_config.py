"""The configuration is read as it stands, or refused with every complaint at once."""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config, ConfigError, load, split_address

# For each key: what a file may say, and what that means.
OTHERS = {
    "http_address": ("127.0.0.1:0", "127.0.0.1:0"),
    "fs_inbound_address": ("[::1]:8021", "[::1]:8021"),
    "fs_inbound_password": ("Clue%Con$ #1", "Clue%Con$ #1"),
    "auth_id": ("Zoë", "Zoë"),
    "auth_token": ("a=b:c", "a=b:c"),
    "allowed_ips": ("127.0.0.1, ::1 ,,0:0::2,::ffff:10.0.0.1", ("127.0.0.1", "::1", "::2", "10.0.0.1")),
    "log": ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    "plugin_path": ("/srv/one, /srv/two words", ("/srv/one", "/srv/two words")),
    "default_http_method": ("GET", "GET"),
    "max_call_duration": ("60", 60),
    "backstop_margin": ("2", 2),
    "dial_patience": ("1", 1),
    "http_timeout": ("0.1", 0.1),
    "http_connect_timeout": ("0.1", 0.1),
    "http_first_byte_timeout": ("0.1", 0.1),
    "max_redirects": ("0", 0),
    "proxy_url": ("http://proxy:3128", "http://proxy:3128"),
    "http_ca_file": ("/etc/our-ca.pem", "/etc/our-ca.pem"),
    "application_networks": ("10.1.0.0/16, 192.0.2.7 ,FD00::/8", ("10.1.0.0/16", "192.0.2.7/32", "fd00::/8")),
    "extra_fs_vars": (
        "variable_a, Channel-Read-Codec-Bit-Rate",
        ("variable_a", "Channel-Read-Codec-Bit-Rate"),
    ),
    "callback_tries": ("1", 1),
    "callback_retry_delay": ("0", 0.0),
    "callback_retry_longest": ("600", 600.0),
    "document_tries": ("9", 9),
    "document_retry_delay": ("2.5", 2.5),
    "max_document_bytes": ("1", 1),
    "max_documents": ("2", 2),
    "play_folders": ("/srv//sounds/, /srv/more", ("/srv/sounds", "/srv/more")),
    "record_folders": ("/srv/recordings", ("/srv/recordings",)),
    "retention_hours": ("24", 24),
}


class Configured(SynchronousTestCase):
    def setUp(self):
        self.path = self.mktemp()

    def load(self, text, **environ):
        Path(self.path).write_text(text, encoding="utf-8")
        return load(self.path, environ)

    def complaints(self, text, **environ):
        error = self.assertRaises(ConfigError, self.load, text, **environ)
        return str(error).replace(self.path, "FILE").split("\n")


class AFile(Configured):
    def test_is_not_needed(self):
        self.assertEqual(load(None, {}), Config())

    def test_may_be_empty(self):
        self.assertEqual(self.load(""), Config())
        self.assertEqual(self.load("[plivotx]\n# nothing\n; at all\n"), Config())

    def test_can_set_every_key(self):
        self.assertEqual(set(OTHERS), set(Config.__struct_fields__))
        for field, (text, value) in OTHERS.items():
            more = {"auth_id": "AUTH_TOKEN = x", "auth_token": "AUTH_ID = x"}.get(field, "")
            for separator in (" = ", ":", "="):
                config = self.load(f"[plivotx]\n{more}\n{field.upper()}{separator}{text}  \n")
                self.assertEqual(getattr(config, field), value)
                self.assertNotEqual(value, getattr(Config(), field))

    def test_can_set_all_of_them_at_once(self):
        lines = "\n".join(f"{field} = {text}" for field, (text, _) in OTHERS.items())
        config = self.load(f"[plivotx]\n{lines}\n")
        self.assertEqual(
            msgspec.structs.asdict(config), {field: value for field, (_, value) in OTHERS.items()}
        )

    def test_may_have_comments_behind_a_value(self):
        config = self.load("[plivotx]\nFS_INBOUND_PASSWORD = a;b#c ; the password\nLOG = memory: ; none\n")
        self.assertEqual((config.fs_inbound_password, config.log), ("a;b#c", "memory:"))


class TheEnvironment(Configured):
    def test_goes_before_the_file(self):
        config = self.load("[plivotx]\nLOG = memory:\nDIAL_PATIENCE = 7\n", PLIVOTX_LOG="sqlite:x")
        self.assertEqual((config.log, config.dial_patience), ("sqlite:x", 7))

    def test_is_enough(self):
        self.assertEqual(
            load(None, {"PLIVOTX_DIAL_PATIENCE": "9", "OTHER": "x", "LOG": "y"}).dial_patience, 9
        )

    def test_may_be_what_is_wrong(self):
        self.assertEqual(
            self.complaints("[plivotx]\nLOG = x\n", PLIVOTX_LOG="y"),
            ["environment variable PLIVOTX_LOG: LOG = 'y': must begin with sqlite:, redis:// or memory:"],
        )


class Complaints(Configured):
    def test_come_all_at_once_each_with_its_line(self):
        self.assertEqual(
            self.complaints(
                "[plivotx]\n"
                "LOG = x\n"
                "# DIAL_PATIENCE = 1\n"
                "HTTP_ADDRESS = 0.0.0.0:8088\n"
                "DIAL_PATIENCE = soon\n"
                "Colour = blue\n"
                "[other]\n"
                "LOG = y\n",
                PLIVOTX_CALLBACK_TRIES="0",
            ),
            [
                "FILE, line 6: unknown key Colour",
                "FILE, line 7: unknown section [other], expected [plivotx]",
                "FILE, line 2: LOG = 'x': must begin with sqlite:, redis:// or memory:",
                "FILE, line 5: DIAL_PATIENCE = 'soon': invalid literal for int() with base 10: 'soon'",
                "environment variable PLIVOTX_CALLBACK_TRIES: CALLBACK_TRIES = '0': must be from 1 to 1000000000",
                "FILE, line 4: HTTP_ADDRESS: 0.0.0.0 is beyond loopback, AUTH_ID and AUTH_TOKEN are required",
            ],
        )

    def test_are_made_of_values_that_cannot_be_used(self):
        for line in (
            "HTTP_ADDRESS = 8088",
            "HTTP_ADDRESS = :8088",
            "HTTP_ADDRESS = 127.0.0.1:",
            "HTTP_ADDRESS = 127.0.0.1:65536",
            "HTTP_ADDRESS = 127.0.0.1:x",
            "HTTP_ADDRESS = 127.0.0.1:-1",
            "HTTP_ADDRESS = 127.0.0.1:\u0668",
            "FS_INBOUND_ADDRESS = freeswitch",
            "FS_INBOUND_ADDRESS =",
            "ALLOWED_IPS = 127.0.0.1, localhost",
            "ALLOWED_IPS = 10.0.0.0/8",
            "APPLICATION_NETWORKS = 10.0.0.1/8",
            "APPLICATION_NETWORKS = internal",
            "LOG =",
            "LOG = postgres://x",
            "DEFAULT_HTTP_METHOD = post",
            "DEFAULT_HTTP_METHOD = PUT",
            "MAX_CALL_DURATION = 0",
            "MAX_CALL_DURATION = 1.5",
            "MAX_CALL_DURATION =",
            "MAX_CALL_DURATION = 10000000000",
            "BACKSTOP_MARGIN = 1",
            "MAX_DOCUMENTS = 0",
            "PLAY_FOLDERS = sounds",
            "RECORD_FOLDERS = /srv/two words",
            "RECORD_FOLDERS = /srv/../etc",
            "HTTP_TIMEOUT = 0",
            "HTTP_TIMEOUT = -1",
            "HTTP_TIMEOUT = nan",
            "HTTP_TIMEOUT = inf",
            "CALLBACK_TRIES = 0",
            "CALLBACK_RETRY_DELAY = -0.1",
            "DOCUMENT_TRIES = 0",
            "MAX_DOCUMENT_BYTES = 0",
        ):
            (complaint,) = self.complaints(f"\n[plivotx]\n{line}\n")
            name, _, value = line.partition(" =")
            self.assertTrue(complaint.startswith(f"FILE, line 3: {name} = {value.strip()!r}: "), complaint)

    def test_are_made_of_files_that_are_none(self):
        for text, why in (
            ("LOG = memory:", "no section headers"),
            ("[plivotx]\nLOG\n", "line 2"),
            ("[plivotx\n", "no section headers"),
            ("[plivotx]\nLOG = memory:\nLOG = memory:\n", "line 3"),
            ("[plivotx]\n[plivotx]\n", "line 2"),
        ):
            (complaint,) = self.complaints(text)
            self.assertTrue(complaint.startswith("FILE: "), complaint)
            self.assertIn(why, complaint)
        Path(self.path).write_bytes(b"[plivotx]\nLOG = \xff\n")
        self.assertIn("utf-8", str(self.assertRaises(ConfigError, load, self.path, {})))
        self.assertIn("No such file", str(self.assertRaises(ConfigError, load, "/nowhere", {})))
        self.assertIn("directory", str(self.assertRaises(ConfigError, load, "/", {})))

    def test_are_made_of_a_key_that_is_there_twice_in_other_letters(self):
        self.assertEqual(
            self.complaints("[plivotx]\nLOG = memory:\nlog = sqlite:x\n"),
            ["FILE, line 3: log is there twice, also in FILE, line 2"],
        )

    def test_are_made_of_the_files_of_v01_and_of_a_default_section(self):
        self.assertEqual(
            self.complaints("[common]\nAUTH_ID = a\n[rest_server]\n[DEFAULT]\nLOG = memory:\n"),
            [
                f"FILE, line {line}: unknown section [{name}], expected [plivotx]"
                for line, name in ((1, "common"), (3, "rest_server"), (4, "DEFAULT"))
            ],
        )

    def test_never_show_a_secret(self):
        text = "[plivotx]\nAUTH_TOKEN = the-secret\nFS_INBOUND_PASSWORD = the-secret\nLOG = x\n"
        self.assertNotIn("the-secret", str(self.complaints(text)))


class Safety(Configured):
    def test_an_address_beyond_loopback_needs_credentials(self):
        for address in ("0.0.0.0:8088", "10.0.0.1:8088", "[::]:8088", "pbx.test:8088", "localhost.test:1"):
            (complaint,) = self.complaints(f"[plivotx]\nHTTP_ADDRESS = {address}\n")
            self.assertIn("AUTH_ID and AUTH_TOKEN are required", complaint)
            self.load(f"[plivotx]\nHTTP_ADDRESS = {address}\nAUTH_ID = a\nAUTH_TOKEN = b\n")

    def test_loopback_does_not(self):
        for address in ("127.0.0.1:8088", "127.1.2.3:8088", "localhost:8088", "[::1]:8088", "::1:8088"):
            self.assertEqual(self.load(f"[plivotx]\nHTTP_ADDRESS = {address}\n").http_address, address)

    def test_one_half_of_the_credentials_is_a_mistake(self):
        for name in ("AUTH_ID", "AUTH_TOKEN"):
            self.assertEqual(
                self.complaints(f"[plivotx]\n{name} = a\n"),
                [f"FILE, line 2: {name}: AUTH_ID and AUTH_TOKEN: give both or neither"],
            )


class AnyFile(Configured):
    @given(
        st.lists(
            st.sampled_from(
                [
                    "[plivotx]",
                    "[x]",
                    "[",
                    "]",
                    "=",
                    ":",
                    ";",
                    "#",
                    "\n",
                    " ",
                    "LOG",
                    "HTTP_ADDRESS",
                    "AUTH_ID",
                ]
            )
            | st.text(max_size=4),
            max_size=20,
        )
    )
    def test_gives_a_configuration_or_complaints(self, pieces):
        try:
            text = "".join(pieces).encode().decode()
            self.load("[plivotx]\n" + text)
        except (ConfigError, UnicodeEncodeError) as error:
            self.assertTrue(str(error))


class Addresses(SynchronousTestCase):
    def test_are_split_at_their_last_colon(self):
        self.assertEqual(split_address("a.test:1"), ("a.test", 1))
        self.assertEqual(split_address("[::1]:8088"), ("::1", 8088))
        self.assertEqual(split_address("::1:8088"), ("::1", 8088))
