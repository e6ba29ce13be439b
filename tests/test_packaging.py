"""What plivotx is installed with: the Dockerfile, the compose file, the systemd unit."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from plivotx.cli.main import make_parser
from plivotx.config_file import load
from tests.test_wheel import SHIPPED

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "conf" / "systemd" / "plivotx.service"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def instructions(text):
    """Of a Dockerfile, each with its argument, lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


class Docker(SynchronousTestCase):
    def setUp(self):
        self.said = instructions(read("Dockerfile"))

    def of(self, name):
        return [each[1] for each in self.said if each[0] == name]

    def test_the_image_is_made_of_what_a_wheel_is_made_of(self):
        copied = [word for each in self.of("COPY") for word in each.split()[:-1]]
        self.assertEqual(sorted(copied), sorted(SHIPPED))
        ignored = read(".dockerignore").splitlines()
        self.assertIn("*", ignored)
        self.assertEqual(sorted(each[1:] for each in ignored if each.startswith("!")), sorted(SHIPPED))

    def test_the_server_is_not_root_and_writes_where_a_volume_is(self):
        (user,) = self.of("USER")
        self.assertRegex(user, r"^[1-9][0-9]*$")
        self.assertEqual(self.of("VOLUME"), self.of("WORKDIR")[1:])
        environment = dict(re.findall(r"(PLIVOTX_[A-Z_]+)=(\S+)", " ".join(self.of("ENV"))))
        log = load(None, environment).config.log
        self.assertEqual(Path(log.partition(":")[2]).parent, Path(self.of("VOLUME")[0]))

    def test_its_health_check_is_a_command_that_there_is(self):
        (check,) = self.of("HEALTHCHECK")
        program, *words = json.loads(check[check.index("[") :])
        self.assertEqual(program, "plivotx")
        given = make_parser().parse_args(words)
        self.assertEqual((given.config, given.timeout), ("/etc/plivotx/plivotx.conf", 5.0))
        (command,), (entry,) = map(self.of, ("CMD", "ENTRYPOINT"))
        self.assertEqual(json.loads(command), ["--config", given.config])
        self.assertEqual(json.loads(entry)[0], "twistd")


class Compose(SynchronousTestCase):
    def test_every_variable_is_a_key_of_the_server_and_none_is_missing_without_a_word(self):
        text = re.sub(r"^ *#.*\n", "", read("compose.yaml"), flags=re.MULTILINE)
        given = dict(re.findall(r"^      (PLIVOTX_[A-Z_]+): (.+)$", text, re.MULTILINE))
        variables = re.findall(r"\$\{([A-Z_]+)(:[-?])([^}]*)\}", text)
        self.assertEqual(len(variables), text.count("$"))
        found = {name: value if how == ":-" else "chosen" for name, how, value in variables}
        environment = {
            name: re.sub(r"\$\{([A-Z_]+):[-?][^}]*\}", lambda each: found[each[1]], value)
            for name, value in given.items()
        }
        loaded = load(None, environment)
        self.assertEqual((loaded.warnings, loaded.config.fs_inbound_address), ((), "127.0.0.1:8021"))
        for name in ("PLIVOTX_AUTH_ID", "PLIVOTX_AUTH_TOKEN", "FREESWITCH_IMAGE"):
            self.assertIn((name, ":?"), [each[:2] for each in variables])

    def test_what_it_mounts_is_there(self):
        mounted = re.findall(r"^      - \./([^:]+):", read("compose.yaml"), re.MULTILINE)
        self.assertEqual(len(mounted), read("compose.yaml").count("- ./"))
        self.assertTrue(mounted)
        for path in mounted:
            self.assertTrue((ROOT / path).is_dir(), path)


class Systemd(SynchronousTestCase):
    def analyze(self, *words):
        if not shutil.which("systemd-analyze"):
            raise SkipTest("there is no systemd-analyze here")
        unit = Path(self.mktemp()).absolute()
        unit.mkdir()
        copy = unit / UNIT.name
        # the program is not installed here
        copy.write_text(re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", read(UNIT)), encoding="utf-8")
        return subprocess.run(
            ["systemd-analyze", *words, str(copy)], capture_output=True, text=True, timeout=60, check=False
        )

    def test_the_unit_is_understood(self):
        ran = self.analyze("verify", "--man=no")
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))

    def test_the_unit_is_hardened(self):
        ran = self.analyze("security", "--offline=yes", "--no-pager", "--threshold=20")
        self.assertEqual(ran.returncode, 0, ran.stdout[-200:])

    def test_the_unit_leaves_what_tls_needs(self):
        self.assertNotIn("\nMemoryDenyWriteExecute=", read(UNIT))
