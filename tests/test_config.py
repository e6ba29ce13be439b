"""The configuration is read as it stands, or refused with every complaint at once."""

from ipaddress import ip_network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import (
    Config,
    ConfigError,
    GatewayRules,
    SwitchConfig,
    is_within,
    split_address,
    without_credentials,
)
from plivotx.config_file import KEYS, Loaded, load

# For each key: what a file may say, and what that means.
OTHERS = {
    "http_address": ("127.0.0.1:0", "127.0.0.1:0"),
    "fs_inbound_address": ("[::1]:8021", "[::1]:8021"),
    "fs_inbound_password": ("Clue%Con$ #1", "Clue%Con$ #1"),
    "auth_id": ("Zoë", "Zoë"),
    "auth_token": ("a=b:c", "a=b:c"),
    "ssl": ("TRUE", True),
    "ssl_cert": ("/etc/cert and key.pem", "/etc/cert and key.pem"),
    "allowed_ips": (
        "127.0.0.1, ::1 ,,0:0::2,::ffff:10.0.0.1, 10.0.0.0/8,\n  ::ffff:10.1.0.0/112, 10.0.0.2/32",
        ("127.0.0.1", "::1", "::2", "10.0.0.1", "10.0.0.0/8", "10.1.0.0/16", "10.0.0.2"),
    ),
    "default_answer_url": ("https://app.test/answer?a=1", "https://app.test/answer?a=1"),
    "default_hangup_url": ("http://app.test/hangup", "http://app.test/hangup"),
    "allowed_gateways": ("sofia/gateway/a/, user/*", ("sofia/gateway/a/", "user/*")),
    "allowed_destinations": ("+1, 0044", ("+1", "0044")),
    "denied_destinations": ("+1900,*9,#", ("+1900", "*9", "#")),
    "allowed_variables": ("execute_on_answer, api_*", ("execute_on_answer", "api_*")),
    "log": ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    "plugin_path": ("/usr, /", ("/usr", "/")),
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
    "application_networks": ("10.1.0.0/16, 192.0.2.7 ,FD00::/8", ("10.1.0.0/16", "192.0.2.7", "fd00::/8")),
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


def certificate(case):
    """The path of a file that looks like a certificate with its key."""
    path = Path(case.mktemp())
    path.write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\n", encoding="ascii")
    return str(path)


class Configured(SynchronousTestCase):
    def setUp(self):
        self.path = self.mktemp()

    def load(self, text, **environ):
        Path(self.path).write_text(text, encoding="utf-8")
        loaded = load(self.path, environ)
        self.assertEqual(loaded, Loaded(loaded.config, places=loaded.places))
        return loaded.config

    def remarks(self, text, **environ):
        """The configuration of a file, its warnings and its notes."""
        Path(self.path).write_text(text, encoding="utf-8")
        config, *said, _ = load(self.path, environ)
        return config, *([each.replace(self.path, "FILE") for each in which] for which in said)

    def complaints(self, text, **environ):
        error = self.assertRaises(ConfigError, self.remarks, text, **environ)
        return str(error).replace(self.path, "FILE").split("\n")


class AFile(Configured):
    def test_is_not_needed(self):
        self.assertEqual(load(None, {}), Loaded(Config()))

    def test_may_be_empty(self):
        self.assertEqual(self.load(""), Config())
        self.assertEqual(self.load("[plivotx]\n# nothing\n; at all\n"), Config())

    def test_can_set_every_key(self):
        self.assertEqual(set(OTHERS), set(KEYS))
        for field, (text, value) in OTHERS.items():
            more = {
                "auth_id": "AUTH_TOKEN = x",
                "auth_token": "AUTH_ID = x",
                "ssl": f"SSL_CERT = {certificate(self)}",
            }.get(field, "")
            for separator in (" = ", ":", "="):
                config = self.load(f"[plivotx]\n{more}\n{field.upper()}{separator}{text}  \n")
                self.assertEqual(getattr(config, field), value)
                self.assertNotEqual(value, getattr(Config(), field))

    def test_can_set_all_of_them_at_once(self):
        others = OTHERS | {"ssl_cert": (certificate(self),) * 2}
        lines = "\n".join(f"{field} = {text}" for field, (text, _) in others.items())
        config = self.load(f"[plivotx]\n{lines}\n")
        self.assertEqual(
            {key: getattr(config, key) for key in KEYS},
            {field: value for field, (_, value) in others.items()},
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
            load(None, {"PLIVOTX_DIAL_PATIENCE": "9", "OTHER": "x", "LOG": "y"}).config.dial_patience, 9
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
                "FILE, line 6: unknown key Colour in [plivotx]",
                "FILE, line 7: unknown section [other], expected [plivotx]",
                "FILE, line 2: LOG = 'x': must begin with sqlite:, redis:// or memory:",
                "FILE, line 5: DIAL_PATIENCE = 'soon': is no whole number",
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
            "ALLOWED_IPS = 10.0.0.1/8",
            "ALLOWED_IPS = 10.0.0.0/33",
            "APPLICATION_NETWORKS = 10.0.0.1/8",
            "APPLICATION_NETWORKS = internal",
            "SSL = yes",
            "SSL =",
            "AUTH_ID = a:b",
            "DEFAULT_ANSWER_URL = ftp://x",
            "DEFAULT_ANSWER_URL = http://",
            "DEFAULT_HANGUP_URL = app.test/hangup",
            "PROXY_URL = https://proxy:1",
            "PROXY_URL = http://proxy",
            "ALLOWED_GATEWAYS = ,",
            "ALLOWED_IPS = , ,",
            "ALLOWED_GATEWAYS = sofia/gateway/a b/",
            "ALLOWED_GATEWAYS = {x=1}user/",
            "ALLOWED_DESTINATIONS = +",
            "ALLOWED_DESTINATIONS = +1 2",
            "DENIED_DESTINATIONS = sip:a@b",
            "ALLOWED_VARIABLES = a=b",
            "ALLOWED_VARIABLES = a b",
            "FS_INBOUND_ADDRESS = freeswitch:0",
            "LOG = memory:\n  x",
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
            name, _, value = line.replace("\n  ", "\n").partition(" =")
            self.assertTrue(complaint.startswith(f"FILE, line 3: {name} = {value.strip()!r}: "), complaint)

    def test_are_made_of_each_line_that_is_none(self):
        for text, complaints in (
            ("LOG = memory:", ["line 1: LOG stands before the first [section]"]),
            ("[plivotx]\nLOG\n= x\n", [f"line {line}: expected KEY = value" for line in (2, 3)]),
            ("[plivotx\nLOG = x", ["line 1: a section begins with [NAME]"]),
            ("[ ]\nLOG = x", ["line 1: a section begins with [NAME]"]),
            (
                "[plivotx]\nLOG = memory:\nLOG = memory:\nlog = sqlite:x\n",
                [
                    f"line {line}: {key} is there twice, also in FILE, line 2"
                    for line, key in ((3, "LOG"), (4, "log"))
                ],
            ),
            ("[plivotx]\n\n[plivotx]\n", ["line 3: section [plivotx] is there twice, also in FILE, line 1"]),
        ):
            self.assertEqual(self.complaints(text), [f"FILE, {each}" for each in complaints])

    def test_are_made_of_files_that_cannot_be_read(self):
        Path(self.path).write_bytes(b"[plivotx]\nLOG = \xff\n")
        self.assertIn("utf-8", str(self.assertRaises(ConfigError, load, self.path, {})))
        error = self.assertRaises(ConfigError, load, "/nowhere", {})
        self.assertEqual(str(error), "/nowhere: cannot be read: No such file or directory")
        self.assertIn("directory", str(self.assertRaises(ConfigError, load, "/", {})))

    def test_are_made_of_sections_that_nobody_knows(self):
        self.assertEqual(
            self.complaints("[Plivotx]\nLOG = memory:\n[DEFAULT]\nLOG = memory:\n[restserver]\n"),
            [
                "FILE, line 1: unknown section [Plivotx], did you mean plivotx?",
                "FILE, line 3: unknown section [DEFAULT], expected [plivotx]",
                "FILE, line 5: unknown section [restserver], did you mean rest_server?",
            ],
        )

    def test_never_show_a_secret(self):
        text = (
            "[plivotx]\nAUTH_ID = a:b\nAUTH_TOKEN = the-secret\n  the-secret\n"
            "FS_INBOUND_PASSWORD = the-secret\x01\nLOG = redis:/x://:the-secret@host\n"
            "PROXY_URL = https://me:the-secret@proxy:1\nthe-secret\n"
            "[switch a]\naddress = x\npassword = the-secret\x01\n"
        )
        said = self.complaints(text)
        self.assertEqual(len(said), 8, said)
        self.assertNotIn("the-secret", str(said))


class Warnings(Configured):
    def test_name_unknown_keys_of_an_old_section_and_what_may_have_been_meant(self):
        config, warnings, notes = self.remarks(
            "[common]\nauth_id = x\nMAX_CALL_DURATION = 3\nHTTP_ADDRESS = 127.0.0.1:1\nColour = blue\n"
            "[rest_server]\nFS_INBOUND_ADRESS = 127.0.0.1:8021\nFS_INBOUND_ADDRESS = emulator\n"
            "[plivotx]\nLOG = memory:\n"
        )
        self.assertEqual((config.log, config.auth_id), ("memory:", ""))
        self.assertEqual(
            warnings,
            [
                "FILE, line 2: unknown key auth_id in [common] is ignored, did you mean AUTH_ID?",
                "FILE, line 3: unknown key MAX_CALL_DURATION in [common] is ignored, it belongs in [plivotx]",
                "FILE, line 4: unknown key HTTP_ADDRESS in [common] is ignored, it belongs in [rest_server]",
                "FILE, line 5: unknown key Colour in [common] is ignored",
                (
                    "FILE, line 7: unknown key FS_INBOUND_ADRESS in [rest_server] is ignored, "
                    "did you mean FS_INBOUND_ADDRESS?"
                ),
            ],
        )
        self.assertEqual(notes, [])


class Folders(Configured):
    def test_of_plugins_must_be_there(self):
        folder = Path(self.mktemp()).absolute()
        text = f"[plivotx]\nLOG = memory:\nPLUGIN_PATH = {folder},\n  /nowhere/at all\n"
        self.assertEqual(
            self.complaints(text),
            [f"FILE, line 3: PLUGIN_PATH: {each} is no folder" for each in (folder, "/nowhere/at all")],
        )
        folder.write_text("", encoding="ascii")
        self.assertEqual(
            self.complaints("", PLIVOTX_PLUGIN_PATH=str(folder)),
            [f"environment variable PLIVOTX_PLUGIN_PATH: PLUGIN_PATH: {folder} is no folder"],
        )
        folder.unlink()
        folder.mkdir()
        self.assertEqual(self.load("", PLIVOTX_PLUGIN_PATH=str(folder)).plugin_path, (str(folder),))


class UnknownKeys(Configured):
    def test_stop_the_start_in_sections_of_our_own(self):
        self.assertEqual(
            self.complaints(
                "[plivotx]\nColour = blue\nALOWED_IPS = 127.0.0.1\nDENIED_DESTINATION = +881, +882\n"
                "[switch a]\naddress = emulator\npasword = the-secret\n"
                "[gateway x]\ncooldown = 1\nstop_cause = USER_BUSY\nsize =\n"
            ),
            [
                "FILE, line 2: unknown key Colour in [plivotx]",
                "FILE, line 3: unknown key ALOWED_IPS in [plivotx], did you mean ALLOWED_IPS?",
                "FILE, line 4: unknown key DENIED_DESTINATION in [plivotx], did you mean DENIED_DESTINATIONS?",
                "FILE, line 7: unknown key pasword in [switch a], did you mean password?",
                "FILE, line 9: unknown key cooldown in [gateway x], did you mean cool_down?",
                "FILE, line 10: unknown key stop_cause in [gateway x], did you mean stop_causes?",
                "FILE, line 11: unknown key size in [gateway x]",
            ],
        )

    def test_stop_it_there_beside_old_sections_too(self):
        self.assertEqual(
            self.complaints("[common]\nColour = blue\n[plivotx]\nALLOWED_DESTINATION = +49\n"),
            [
                "FILE, line 4: unknown key ALLOWED_DESTINATION in [plivotx], did you mean ALLOWED_DESTINATIONS?"
            ],
        )

    def test_with_a_letter_too_few_or_too_many_never_leave_a_protection_off(self):
        for key in ("allowed_ips", "allowed_gateways", "allowed_destinations", "denied_destinations"):
            for place in range(len(key)):
                for typed in (key[:place] + key[place + 1 :], key[:place] + key[place] + key[place:]):
                    said = [
                        f"FILE, line 2: unknown key {typed} in [plivotx], did you mean {key.upper()}?",
                    ]
                    self.assertEqual(self.complaints(f"[plivotx]\n{typed} = 1\n"), said)
                    name = f"PLIVOTX_{typed.upper()}"
                    self.assertEqual(
                        self.complaints("", **{name: "1"}),
                        [f"unknown environment variable {name}, did you mean PLIVOTX_{key.upper()}?"],
                    )

    def test_are_variables_of_the_environment_that_are_nearly_right(self):
        self.assertEqual(
            self.complaints("", PLIVOTX_AUTH_TOKN="the-secret", PLIVOTX_HYPOTHESIS="x", AUTH_TOKN="x"),
            ["unknown environment variable PLIVOTX_AUTH_TOKN, did you mean PLIVOTX_AUTH_TOKEN?"],
        )


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


class TLS(Configured):
    def test_needs_a_certificate_that_can_be_read(self):
        self.assertEqual(
            self.complaints("[plivotx]\nSSL = true\n"),
            ["FILE, line 2: SSL: SSL_CERT is required, a file with the certificate and its private key"],
        )
        (complaint,) = self.complaints("[plivotx]\nSSL = true\nSSL_CERT = /nowhere\n")
        self.assertEqual(
            complaint, "FILE, line 3: SSL_CERT: /nowhere cannot be read: No such file or directory"
        )
        for text, missing in (("", "CERTIFICATE"), ("-----BEGIN CERTIFICATE-----\n", "PRIVATE KEY")):
            other = Path(self.mktemp())
            other.write_text(text, encoding="ascii")
            self.assertEqual(
                self.complaints(f"[plivotx]\nSSL = true\nSSL_CERT = {other}\n"),
                [f"FILE, line 3: SSL_CERT: {other} holds no {missing}"],
            )

    def test_does_not_look_for_one_when_it_is_off(self):
        self.assertEqual(self.load("[plivotx]\nSSL_CERT = /nowhere\n").ssl_cert, "/nowhere")


class Switches(Configured):
    def test_are_one_without_a_section(self):
        config = self.load("[plivotx]\nFS_INBOUND_ADDRESS = fs:8021\nFS_INBOUND_PASSWORD = x\n")
        self.assertEqual(config.switches, (SwitchConfig(name="default", address="fs:8021", password="x"),))
        self.assertEqual(Config().switches[0].address, "emulator")

    def test_are_those_that_have_sections(self):
        config = self.load(
            "[switch east]\naddress = 10.0.0.5:8021\npassword = s;e#c\n[plivotx]\nFS_INBOUND_PASSWORD = usual\n"
            "[switch  west-2]\nADDRESS: emulator\n[switch west_3]\naddress = emulator\npassword =\n"
        )
        self.assertEqual(
            config.switches,
            (
                SwitchConfig(name="east", address="10.0.0.5:8021", password="s;e#c"),
                SwitchConfig(name="west-2", address="emulator", password="usual"),
                SwitchConfig(name="west_3", address="emulator", password="usual"),
            ),
        )

    def test_are_refused_with_every_reason(self):
        self.assertEqual(
            self.complaints(
                "[plivotx]\nFS_INBOUND_ADDRESS = 127.0.0.1:8021\n"
                "[switch a]\naddress = localhost:8021\naddress = x:1\n"
                "[switch b]\naddress = 127.0.0.1:8021\n"
                "[switch b.c]\naddress = c:1\n[switch]\n[switch d]\n[switch e]\naddress = here\n"
                "[switch a]\naddress = other:1\n"
            ),
            [
                "FILE, line 5: address is there twice, also in FILE, line 4",
                "FILE, line 8: [switch b.c]: the name of a switch is letters, digits, - and _",
                "FILE, line 10: [switch]: the name of a switch is letters, digits, - and _",
                "FILE, line 11: [switch d] has no address",
                "FILE, line 13: address = 'here': is not host:port",
                "FILE, line 14: section [switch a] is there twice, also in FILE, line 3",
                (
                    "FILE, line 2: FS_INBOUND_ADDRESS is for one switch, and FILE, line 3 has [switch a]: "
                    "give a switch one of the two"
                ),
                "FILE, line 6: [switch b] has the address 127.0.0.1:8021 of [switch a] in FILE, line 3",
            ],
        )

    def test_all_give_way_to_the_one_of_the_environment(self):
        config, warnings, _ = self.remarks(
            "[switch a]\naddress = a:1\n[switch b]\naddress = b:1\n", PLIVOTX_FS_INBOUND_ADDRESS="c:1"
        )
        self.assertEqual(config.switches, (SwitchConfig(name="default", address="c:1", password="ClueCon"),))
        self.assertEqual(
            warnings,
            [
                (
                    "environment variable PLIVOTX_FS_INBOUND_ADDRESS replaces all sections [switch], "
                    "such as [switch a] in FILE, line 1"
                ),
            ],
        )

    def test_take_a_password_of_the_environment(self):
        config = self.load("[switch a]\naddress = a:1\n", PLIVOTX_FS_INBOUND_PASSWORD="p")
        self.assertEqual(config.switches[0].password, "p")


class Gateways(Configured):
    def test_have_the_rules_of_the_longest_prefix_that_fits(self):
        config = self.load(
            "[gateway sofia/gateway/]\nprogress_timeout = 8\n"
            "[gateway sofia/gateway/carrier1/]\nstop_causes = user_busy, UNALLOCATED_NUMBER\nCool_Down = 300\n"
            "[gateway]\ncool_down_after = 1\n"
        )
        self.assertEqual(
            config.rules("sofia/gateway/carrier1/00"),
            GatewayRules(
                prefix="sofia/gateway/carrier1/",
                stop_causes=("USER_BUSY", "UNALLOCATED_NUMBER"),
                cool_down=300,
            ),
        )
        self.assertEqual(
            config.rules("sofia/gateway/carrier1"), GatewayRules(prefix="sofia/gateway/", progress_timeout=8)
        )
        self.assertEqual(config.rules("user/"), GatewayRules(cool_down_after=1))
        self.assertEqual(config.rules("SOFIA/Gateway/x/").progress_timeout, 8)
        self.assertEqual(Config().rules("user/"), GatewayRules())

    @given(st.lists(st.text("ab/", max_size=4), unique=True), st.text("ab/", max_size=6))
    def test_have_no_rules_that_a_longer_prefix_has(self, prefixes, prefix):
        config = Config(gateways=tuple(GatewayRules(prefix=each, cool_down=1) for each in prefixes))
        found = config.rules(prefix)
        fitting = [each for each in prefixes if prefix.startswith(each)]
        self.assertEqual(found.cool_down, int(bool(fitting)))
        self.assertTrue(all(found.prefix.startswith(each) for each in fitting))

    def test_are_refused_with_every_reason(self):
        said = self.complaints(
            "[gateway user/'x]\nstop_causes = BUSY, 17\nprogress_timeout = -1\ncool_down = x\n"
            "cool_down_after = 0\n[gateway a]\nstop_causes = 17\n[gateway b]\nstop_causes = USR_BUSY\n"
            "[gateway  a]\n"
        )
        self.assertEqual(
            said,
            [
                """FILE, line 1: [gateway user/'x]: "user/'x" holds "'", which no gateway can""",
                "FILE, line 2: stop_causes = 'BUSY, 17': 'BUSY' is no hangup cause of FreeSWITCH",
                "FILE, line 3: progress_timeout = '-1': must be from 0 to 1000000000",
                "FILE, line 4: cool_down = 'x': is no whole number",
                "FILE, line 5: cool_down_after = '0': must be from 1 to 1000000000",
                "FILE, line 7: stop_causes = '17': '17' is no hangup cause of FreeSWITCH, did you mean USER_BUSY?",
                (
                    "FILE, line 9: stop_causes = 'USR_BUSY': 'USR_BUSY' is no hangup cause of FreeSWITCH, "
                    "did you mean USER_BUSY?"
                ),
                "FILE, line 10: section [gateway a] is there twice, also in FILE, line 6",
            ],
        )


class Proxies(SynchronousTestCase):
    def test_with_credentials_are_refused_without_showing_them(self):
        error = self.assertRaises(ConfigError, load, None, {"PLIVOTX_PROXY_URL": "http://me:secret@proxy:1"})
        self.assertIn("PROXY_URL = 'http://...@proxy:1': holds credentials, which are not sent", str(error))


class WhatMayBeDialled(SynchronousTestCase):
    def refused(self, number, prefix="sofia/gateway/a/", **keys):
        return Config(**keys).may_dial(prefix, number).partition(" ")[0]

    def test_is_everything_at_first(self):
        self.assertEqual(self.refused("+1900", "sofia/external/"), "")

    def test_begins_as_one_of_the_allowed_destinations(self):
        allowed = ("+1", "0044")
        for number, refused in (
            ("+1555", ""),
            ("1555", ""),
            ("1", ""),
            ("0044", ""),
            ("+0044", ""),
            ("sip:1555@host", ""),
            ("+44", "To"),
            ("4", "To"),
            ("", "To"),
            ("+", "To"),
            ("anna1", "To"),
            ("sip:anna@1555", "To"),
        ):
            self.assertEqual(self.refused(number, allowed_destinations=allowed), refused, number)

    def test_does_not_begin_as_one_that_is_denied_however_it_is_written(self):
        for number in (
            "1900",
            "+1900555",
            "++1900",
            "+1-900-555",
            "+-1.9_00",
            "1+900",
            "sip:1900@host",
            "sip:+1900@host",
            "SIPS:1-900@host",
            "tel:+1-900",
            "sip:%2B19%300@host",
        ):
            refused = self.refused(number, allowed_destinations=("+1",), denied_destinations=("+1900",))
            self.assertEqual(refused, "To", number)
        self.assertEqual(self.refused("+19", denied_destinations=("+1900",)), "")

    def test_includes_what_a_gateway_has_beyond_itself(self):
        for prefix in (
            "sofia/gateway/a/1900",
            "SOFIA/Gateway/a/+1900",
            "sofia/gateway/a/190",
            "sofia/external/sip:1900@host;a=/",
            "loopback/1900/default/",
            "user/19",
        ):
            keys = {"denied_destinations": ("1900",)}
            self.assertEqual(self.refused("0", prefix, **keys), "To" if prefix != "user/19" else "", prefix)
            self.assertEqual(self.refused("00", prefix, **keys), "To", prefix)
            self.assertEqual(self.refused("0", prefix, allowed_destinations=("0",)), "To", prefix)

    def test_is_what_stands_last_where_a_gateway_has_parts_of_its_own(self):
        for prefix in ("freetdm/1/a/", "loopback/1900/", "sofia/gateway/a/1/"):
            self.assertEqual(self.refused("+1900", prefix, denied_destinations=("1900",)), "To", prefix)
            self.assertEqual(self.refused("44", prefix, allowed_destinations=("1",)), "To", prefix)
        self.assertEqual(self.refused("+1555", "freetdm/1/a/", denied_destinations=("1900",)), "")
        keys = {"allowed_gateways": ("freetdm/1/a/",), "allowed_destinations": ("44",)}
        self.assertEqual(self.refused("+44", "freetdm/1/a/", **keys), "")

    def test_does_not_include_an_access_code_that_the_operator_lists(self):
        keys = {
            "allowed_gateways": ("sofia/gateway/a/99#", "sofia/gateway/b/*"),
            "allowed_destinations": ("1",),
        }
        self.assertEqual(self.refused("1555", "sofia/gateway/a/99#", **keys), "")
        self.assertEqual(self.refused("2555", "sofia/gateway/a/99#", **keys), "To")
        self.assertEqual(self.refused("1555", "sofia/gateway/b/", **keys), "")
        self.assertEqual(self.refused("1555", "sofia/gateway/b/99#", **keys), "To")
        self.assertEqual(self.refused("1555", "sofia/gateway/b/*", **keys), "To")

    def test_goes_through_a_gateway_that_is_allowed(self):
        allowed = ("sofia/gateway/a/", "user/*")
        for prefix, refused in (
            ("sofia/gateway/a/", ""),
            ("user/", ""),
            ("user/1", ""),
            ("sofia/gateway/a/1", "Gateways"),
            ("sofia/gateway/a", "Gateways"),
            ("sofia/external/", "Gateways"),
            ("xuser/", "Gateways"),
            ("", "Gateways"),
        ):
            self.assertEqual(self.refused("1", prefix, allowed_gateways=allowed), refused, prefix)

    @given(st.text("+19.-", max_size=4), st.text("019+-._", max_size=8))
    def test_is_never_a_denied_number_with_something_before_it(self, clutter, rest):
        plain = clutter.replace("1", "").replace("9", "")
        config = Config(denied_destinations=("+1900",), allowed_destinations=("1",))
        self.assertTrue(config.may_dial("user/", plain + "1900" + rest).startswith("To "))


class WhatElseMayBeDone(SynchronousTestCase):
    def test_variables_that_execute_are_set_if_the_operator_names_them(self):
        config = Config(allowed_variables=("Execute_On_answer", "api_*_hook"))
        for name, may in (
            ("execute_on_answer", True),
            ("EXECUTE_ON_ANSWER", True),
            ("api_hangup_hook", True),
            ("api_hangup_hook_1", False),
            ("execute_on_answer_1", False),
            ("xapi_hangup_hook", False),
            ("", False),
        ):
            self.assertIs(config.may_set(name), may, name)
        self.assertFalse(Config().may_set("execute_on_answer"))
        self.assertFalse(Config(allowed_variables=("a.c",)).may_set("abc"))

    def test_the_application_is_asked_within_its_networks(self):
        config = Config(application_networks=("10.0.0.0/8", "2001:db8::/32"))
        for address in ("10.255.0.1", "::ffff:10.0.0.1", "2001:db8::1"):
            self.assertEqual(config.may_ask(address), "")
        for address in ("127.0.0.1", "169.254.169.254", "::1", "app.test", ""):
            self.assertIn("in none of APPLICATION_NETWORKS", config.may_ask(address))
        self.assertEqual(Config().may_ask("169.254.169.254"), "")

    @given(st.ip_addresses(v=4), st.integers(0, 32))
    def test_an_address_is_within_its_own_networks_as_ipv4_and_as_ipv6(self, address, length):
        network = ip_network((address, length), strict=False)
        for written in (str(address), f"::ffff:{address}"):
            self.assertTrue(is_within(written, [str(network)]))
            self.assertIs(
                is_within(written, [f"{network.network_address}"]), address == network.network_address
            )


class Credentials(SynchronousTestCase):
    def test_are_left_out_where_a_configuration_is_shown(self):
        config = Config(
            auth_token="secret",
            fs_inbound_password="secret",
            log="redis://u:secret@h/0",
            dial_patience=7,
            proxy_url="http://u:secret@p:1",
            named_switches=(SwitchConfig(name="a", address="b:1", password="secret"),),
        )
        for shown in (repr(config), str(config), f"{config.switches}"):
            self.assertNotIn("secret", shown)
            self.assertIn("b:1", shown)
        self.assertIn("dial_patience=7", repr(config))

    def test_are_left_out_of_urls(self):
        self.assertEqual(without_credentials("redis://u:p/@s@h:1/0"), "redis://...@h:1/0")
        self.assertEqual(without_credentials("http://h/a"), "http://h/a")


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
            self.remarks("[plivotx]\n" + text)
        except (ConfigError, UnicodeEncodeError) as error:
            self.assertTrue(str(error))


class Addresses(SynchronousTestCase):
    def test_are_split_at_their_last_colon(self):
        self.assertEqual(split_address("a.test:1"), ("a.test", 1))
        self.assertEqual(split_address("[::1]:8088"), ("::1", 8088))
        self.assertEqual(split_address("::1:8088"), ("::1", 8088))
