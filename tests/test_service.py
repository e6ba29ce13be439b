"""`twistd plivotx` makes what the configuration asks for, or ends with every reason why not."""

import datetime as dt
import gc
import io
import os
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, readBody

from plivotx import plugins
from plivotx.config import Config, ConfigError, SwitchConfig
from plivotx.config_file import Loaded, load
from plivotx.emulator.switch import Factory
from plivotx.emulator.switch import Switch as Emulated
from plivotx.service import Options, PlivotxService, certificate, endpoint, findings, switches

PLUGINS = plugins.load([plugins.shipped()], Config())
NOBODY = "127.0.0.1:1"
BROKEN = "from plivotx.nowhere import Verb\n"


class Authority:
    """Signs certificates for localhost, or for others that do."""

    def __init__(self, issuer=None, name="root", *, signs=True):
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = issuer or self
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(issuer.key, hashes.SHA256())
        )

    @property
    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self):
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


ROOT = Authority()
BETWEEN = Authority(ROOT, "between")
SERVER = Authority(BETWEEN, "localhost", signs=False)
LOCKED = SERVER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))


def file(case, *pieces):
    """The path of a new file."""
    path = Path(case.mktemp()).absolute()
    path.write_bytes(b"".join(each if isinstance(each, bytes) else each.encode() for each in pieces))
    return str(path)


class Running(TestCase):
    timeout = 30

    async def serve(self, config, warnings=(), notes=()):
        """A service that has started; what it logged is in `logged`."""
        self.logged = []
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        service = PlivotxService(Loaded(config, warnings, notes), PLUGINS, reactor)
        service.startService()
        self.addCleanup(service.stopService)
        await service._starting
        return service

    async def test_speaks_https_and_shows_the_way_to_its_root(self):
        cert = file(self, SERVER.key_pem, SERVER.pem, BETWEEN.pem)
        service = await self.serve(
            Config(
                http_address="127.0.0.1:0", log="memory:", ssl=True, ssl_cert=cert, fs_inbound_address=NOBODY
            )
        )
        trust = trustRootFromCertificates([Certificate.loadPEM(ROOT.pem)])
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trust))
        response = await agent.request(b"GET", b"https://localhost:%d/" % service._port.getHost().port)
        self.assertEqual((response.code, await readBody(response)), (200, b"plivotx\n"))

    async def test_looks_for_garbage_again_once_it_has_started(self):
        await self.serve(Config(http_address="127.0.0.1:0", log="memory:", fs_inbound_address=NOBODY))
        self.assertTrue(gc.isenabled())

    async def test_is_watched_for_code_that_blocks_until_it_stops(self):
        def watching():
            return [each for each in threading.enumerate() if each.name == "standstill"]

        service = await self.serve(
            Config(http_address="127.0.0.1:0", log="memory:", fs_inbound_address=NOBODY)
        )
        await deferLater(reactor, 0)  # the reactor must run for that
        (thread,) = watching()
        self.assertEqual(service._watcher._plugins, set(PLUGINS.files))
        await service.stopService()
        thread.join(20)
        self.assertEqual(watching(), [])

    async def test_connects_to_each_switch_with_its_own_password(self):
        made = []
        for name in ("east", "west"):
            emulated = Emulated(reactor, password=f"secret of {name}")
            port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory(emulated))
            self.addCleanup(port.stopListening)
            self.addCleanup(emulated.stop)
            made.append(
                SwitchConfig(
                    name=name,
                    address=f"127.0.0.1:{port.getHost().port}",
                    password=f"secret of {name}",
                )
            )
        service = await self.serve(
            Config(http_address="127.0.0.1:0", log="memory:", named_switches=tuple(made))
        )
        connected = service._server.switches
        self.assertEqual(list(connected), ["east", "west"])
        await gatherResults([each.when_up() for each in connected.values()])
        self.assertTrue(all(each.name == name and each.up for name, each in connected.items()))

    async def test_logs_what_its_operator_should_hear_of(self):
        config = Config(http_address="127.0.0.1:0", log="memory:", fs_inbound_address=NOBODY)
        await self.serve(config, ("{FILE}, line 2: x",), ("FILE: y",))
        said = [
            (each["log_level"], formatEvent(each))
            for each in self.logged
            if each.get("log_namespace") == "plivotx.service" and "FILE" in formatEvent(each)
        ]
        self.assertEqual(said, [(LogLevel.warn, "{FILE}, line 2: x"), (LogLevel.info, "FILE: y")])


class Signals(SynchronousTestCase):
    """SIGHUP, which other servers are sent to read their configuration again."""

    def ends_with(self, stdin):
        """What a server says that gets SIGHUP and then SIGTERM, and its exit status."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PLIVOTX_")}
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from twisted.scripts.twistd import run; run()",
                "-n",
                "--pidfile=",
                "plivotx",
            ],
            env={
                **environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PLIVOTX_LOG": "memory:",
                "PLIVOTX_HTTP_ADDRESS": "127.0.0.1:0",
            },
            stdin=stdin,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said = ""
        for name, awaited in ((signal.SIGHUP, "plivotx serves"), (signal.SIGTERM, "SIGHUP")):
            for line in process.stdout:
                said += line
                if awaited in line:
                    break
            process.send_signal(name)
        return said + process.communicate(timeout=60)[0], process.returncode

    def test_is_passed_over(self):
        said, status = self.ends_with(subprocess.DEVNULL)
        self.assertIn("#warn] SIGHUP is passed over: the configuration is read at the start only", said)
        self.assertEqual(status, -signal.SIGTERM)

    def test_ends_it_in_a_terminal_that_is_closed(self):
        ours, its = os.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, its)
        said, status = self.ends_with(its)
        self.assertNotIn("SIGHUP", said)
        self.assertEqual(status, -signal.SIGHUP)


class Wiring(SynchronousTestCase):
    def test_of_one_switch(self):
        (switch,) = switches(Config(fs_inbound_address="[::1]:8021"), Clock()).values()
        self.assertEqual(switch.name, "default")

    def test_of_emulated_switches_each_on_its_own(self):
        names = ("a", "b")
        config = Config(
            named_switches=tuple(SwitchConfig(name=each, address="emulator", password=each) for each in names)
        )
        clock = Clock()
        made = switches(config, clock)
        for each in made.values():
            each.start()
            self.addCleanup(each.stop)
        clock.pump([0.01] * 100)
        self.assertEqual([name for name, each in made.items() if each.up], ["a", "b"])
        made["a"].lose("for the test")
        self.assertTrue(made["b"].up)

    def test_of_addresses(self):
        one = SwitchConfig(name="a", address="fs.test:8021", password="x")
        self.assertIn("fs.test:8021", repr(endpoint(one, Clock())))


class Certificates(SynchronousTestCase):
    def test_bring_those_that_lead_to_their_root(self):
        options = certificate(file(self, SERVER.pem, BETWEEN.pem, ROOT.pem, SERVER.key_pem))
        self.assertEqual(len(options.extraCertChain), 2)

    def test_are_refused_without_their_own_key_or_as_something_else(self):
        misfit = r"its first certificate and its key do not fit each other or cannot be used \(OpenSSL: key values mismatch"
        locked = r"its key cannot be read without a passphrase or at all \(OpenSSL: \w"
        for why, *pieces in (
            ("it has 1 of CERTIFICATE and 0 of PRIVATE KEY, ", SERVER.pem),
            ("it has 0 of CERTIFICATE and 1 of PRIVATE KEY, ", SERVER.key_pem),
            (misfit, SERVER.pem, ROOT.key_pem),
            (misfit, BETWEEN.pem, SERVER.pem, SERVER.key_pem),
            ("it has 1 of CERTIFICATE and 2 of PRIVATE KEY, ", SERVER.pem, SERVER.key_pem, SERVER.key_pem),
            (locked, SERVER.pem, LOCKED),
            (locked, SERVER.pem, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"),
            (
                r"a certificate in it cannot be read \(OpenSSL: \w",
                "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
                SERVER.key_pem,
            ),
            ("it has 0 of CERTIFICATE and 0 of PRIVATE KEY, ", ""),
        ):
            path = file(self, *pieces)
            error = self.assertRaises(ConfigError, certificate, path)
            before, _, said = str(error).partition(
                f"SSL_CERT: {path} is no certificate with its private key: "
            )
            self.assertEqual(before, "")
            self.assertRegex(said, f"^{why}")
        error = self.assertRaises(ConfigError, certificate, "/nowhere")
        self.assertTrue(str(error).endswith("its private key: No such file or directory"), str(error))


class Checking(SynchronousTestCase):
    def setUp(self):
        self.patch(
            os,
            "environ",
            {name: value for name, value in os.environ.items() if not name.startswith("PLIVOTX_")},
        )

    def check(self, *text, flags=("--check",)):
        """The exit status, the lines of stdout, and those of stderr."""
        self.path = file(self, *text)
        options = Options()
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            end = self.assertRaises(SystemExit, options.parseOptions, ["--config", self.path, *flags])
        return (
            end.code,
            *(each.getvalue().replace(self.path, "FILE").splitlines() for each in (out, err)),
        )

    def test_says_what_was_read(self):
        cert = file(self, SERVER.pem, SERVER.key_pem)
        code, out, err = self.check(
            "[plivotx]\nHTTP_ADDRESS = 0.0.0.0:8443\nAUTH_ID = a\nAUTH_TOKEN = the-secret\n"
            f"SSL = true\nSSL_CERT = {cert}\nLOG = redis://me:the-secret@redis:6379/0\nALLOWED_IPS = 10.0.0.0/8\n"
            "[switch east]\naddress = fs:8021\npassword = the-secret\n[switch demo]\naddress = emulator\n"
            "[gateway]\ncool_down = 9\n[rest_server]\nRECORD_URL = http://x\nTRACE = true\n"
        )
        plugin = [each for each in out if each.startswith("plugin: ")]
        self.assertEqual([each.removeprefix("plugin: ") for each in plugin], list(PLUGINS.files))
        self.assertEqual(
            [each for each in out if each not in plugin],
            [
                "configuration: FILE",
                "API: https://0.0.0.0:8443/v0.1/, credentials required, from 10.0.0.0/8",
                "switch east: fs:8021",
                "switch demo: emulator",
                "log: redis://...@redis:6379/0",
                "gateways (all): rules of their own",
                "warning: FILE, line 17: RECORD_URL: the end of a recording is told to nobody",
                "note: FILE: not needed by plivotx: TRACE (line 18)",
                "the configuration is good",
            ],
        )
        self.assertEqual((code, err), (0, []))
        self.assertNotIn("the-secret", str(out))

    def test_reads_the_certificates_for_requests_to_the_application(self):
        code, _, err = self.check("[plivotx]\nHTTP_CA_FILE = /nowhere.pem\n")
        why = "HTTP_CA_FILE = '/nowhere.pem': No such file or directory"
        self.assertEqual((code, err), (1, ["plivotx cannot start:", f"FILE, line 2: {why}"]))

    def test_names_the_line_or_the_variable_of_a_file_of_certificates_that_is_none(self):
        cert, empty = file(self, SERVER.pem, ROOT.key_pem), file(self, "")
        misfit = f"SSL_CERT: {cert} is no certificate with its private key: its first certificate and its key"
        for flags in (("--check",), ()):
            code, _, err = self.check(
                f"[plivotx]\n# TLS\nSSL = true\nSSL_CERT = {cert}\n\nHTTP_CA_FILE = {empty}\n", flags=flags
            )
            self.assertEqual((code, len(err)), (1, 3), err)
            self.assertTrue(err[1].startswith(f"FILE, line 4: {misfit} do not fit each other"), err[1])
            self.assertEqual(err[2], f"FILE, line 6: HTTP_CA_FILE = '{empty}': holds no certificate (PEM)")
        os.environ.update(PLIVOTX_SSL_CERT=cert, PLIVOTX_HTTP_CA_FILE=empty)
        code, _, err = self.check("[rest_server]\nSSL = true\nSSL_CERT = /nowhere\n")
        self.assertTrue(err[1].startswith(f"environment variable PLIVOTX_SSL_CERT: {misfit}"), err[1])
        self.assertTrue(
            err[2].startswith("environment variable PLIVOTX_HTTP_CA_FILE: HTTP_CA_FILE ="), err[2]
        )

    def test_reads_no_file_that_has_no_end(self):
        why = "is longer than 4194304 bytes"
        error = self.assertRaises(ConfigError, load, "/dev/zero", {})
        self.assertEqual(str(error), f"/dev/zero: {why}")
        code, _, err = self.check("[plivotx]\nHTTP_CA_FILE = /dev/zero\n")
        self.assertEqual((code, err[1:]), (1, [f"FILE, line 2: HTTP_CA_FILE = '/dev/zero': {why}"]))
        code, _, err = self.check("[plivotx]\nSSL = true\nSSL_CERT = /dev/zero\n")
        self.assertEqual((code, err[1:]), (1, [f"FILE, line 3: SSL_CERT: /dev/zero {why}"]))

    def test_says_so_where_nothing_was_configured(self):
        self.assertEqual(
            findings(None, Loaded(Config()), PLUGINS)[:4],
            [
                "configuration: no file",
                "API: http://127.0.0.1:8088/v0.1/, no credentials required, from everywhere",
                "switch default: emulator",
                "log: sqlite:var/plivotx.sqlite",
            ],
        )

    def test_names_all_that_is_wrong_on_stderr(self):
        for flags in (("--check",), ()):
            self.assertEqual(
                self.check("[plivotx]\nLOG = x\nHTTP_ADDRESS = 0.0.0.0:1\n", flags=flags),
                (
                    1,
                    [],
                    [
                        "plivotx cannot start:",
                        "FILE, line 2: LOG = 'x': must begin with sqlite:, redis:// or memory:",
                        "FILE, line 3: HTTP_ADDRESS: 0.0.0.0 is beyond loopback, AUTH_ID and AUTH_TOKEN are required",
                    ],
                ),
            )

    def test_names_a_plugin_that_cannot_be_loaded_and_a_certificate_that_is_none(self):
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "mine.py").write_text(BROKEN, encoding="utf-8")
        cert = file(self, SERVER.pem, ROOT.key_pem)
        code, out, err = self.check(f"[plivotx]\nPLUGIN_PATH = {folder}\nSSL = true\nSSL_CERT = {cert}\n")
        self.assertEqual((code, out, len(err)), (1, [], 3), err)
        self.assertIn(f"{folder}/mine.py, line 1: ModuleNotFoundError", err[1])
        self.assertIn(f"SSL_CERT: {cert} is no certificate with its private key", err[2])

    def test_names_a_mistyped_protection_and_a_missing_folder_of_plugins_with_their_lines(self):
        code, out, err = self.check("[plivotx]\nDENIED_DESTINATION = +881\nPLUGIN_PATH = /nowhere\n")
        self.assertEqual((code, out), (1, []))
        self.assertEqual(
            [line.partition(", ")[2] for line in err[1:]],
            [
                "line 2: unknown key DENIED_DESTINATION in [plivotx], did you mean DENIED_DESTINATIONS?",
                "line 3: PLUGIN_PATH: /nowhere is no folder",
            ],
        )

    def test_is_what_twistd_does(self):
        command = (
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "plivotx",
            "--check",
        )
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PLIVOTX_")}
        ends = [
            subprocess.run(
                command,
                env={**environ, "PYTHONPATH": os.pathsep.join(sys.path), "PLIVOTX_DIAL_PATIENCE": patience},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            for patience in ("9", "soon")
        ]
        self.assertEqual([each.returncode for each in ends], [0, 1])
        self.assertTrue(ends[0].stdout.endswith("the configuration is good\n"), ends[0])
        self.assertEqual(
            ends[1].stderr.splitlines()[-1],
            "environment variable PLIVOTX_DIAL_PATIENCE: DIAL_PATIENCE = 'soon': is no whole number",
        )
        self.assertEqual(ends[1].stdout, "")
