"""docs/operations.md names keys, causes, files and messages that are there."""

import re
import shlex
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from plivotx.causes import CAUSES
from plivotx.cli.main import make_parser
from plivotx.config_file import KEYS
from plivotx.projections.call import OUTCOME_UNKNOWN, SWITCH_RESTARTED

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


class Operations(SynchronousTestCase):
    def test_hangup_causes_are_those_of_freeswitch_or_ours(self):
        table = PAGE.partition("## When a call fails")[2].partition("And where no call")[0]
        named = [
            each
            for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
            for each in re.findall(r"`(\w+)`", row)
        ]
        self.assertGreater(len(named), 20)
        self.assertLessEqual(set(named) - {OUTCOME_UNKNOWN, SWITCH_RESTARTED}, set(CAUSES))
        self.assertLessEqual({OUTCOME_UNKNOWN, SWITCH_RESTARTED}, set(named))

    def test_keys_are_those_of_the_configuration(self):
        keys = {each.upper() for each in KEYS}
        for name in ("AUTH_ID", "AUTH_TOKEN", "BACKSTOP_MARGIN", "DIAL_PATIENCE", "RETENTION_HOURS", "MAX_CALL_DURATION",
                     "APPLICATION_NETWORKS", "PROXY_URL", "HTTP_CA_FILE", "ALLOWED_IPS", "LOG"):  # fmt: skip
            self.assertIn(name, PAGE)
            self.assertIn(name, keys)

    def test_messages_of_the_log_are_those_of_the_program(self):
        source = "".join(each.read_text(encoding="utf-8") for each in (ROOT / "plivotx").rglob("*.py"))
        for said in ("is not connected", "is connected", "the log refuses", "cannot be written", "belongs to no open call; hanging it up",
                     "plivotx cannot start", "another process has it", "is abandoned", "no call fits",
                     "the server stands still, for ", "the server goes on; it stood still for "):  # fmt: skip
            self.assertIn(said, PAGE)
            self.assertIn(said, source)

    def test_commands_of_plivotx_are_understood(self):
        lines = re.findall(
            r"(?:/opt/plivotx/bin/|`|exec plivotx )plivotx ((?:calls|show|check|resend|watch|lint)[^`\n&]*)",
            PAGE,
        )
        self.assertGreater(len(lines), 9)
        for line in lines:
            self.assertTrue(make_parser().parse_args(shlex.split(line)), line)
