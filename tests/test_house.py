"""What lies around the program: the pages at the root, the scripts, the licence."""

import os
import re
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SCRIPTS = sorted(path for path in [*(ROOT / "script").iterdir(), ROOT / ".ci" / "run"] if path.is_file())
OURS = re.compile(r"(?:plivotx|plugins|tests|benchmarks|script|conf|docs|twisted|\.ci)/[\w./-]*")


def read(path):
    return path.read_text(encoding="utf-8")


class Pages(SynchronousTestCase):
    def test_the_first_thing_to_be_typed_is_exactly_two_commands(self):
        first = re.search(r"^```sh\n(.*?)^```", read(ROOT / "README.md"), re.MULTILINE | re.DOTALL)
        commands = [line.partition("#")[0].strip() for line in first[1].splitlines()]
        self.assertEqual(commands, ["script/demo", "script/test"])

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)#]+)", read(page)):
                if not link.startswith("https://"):
                    self.assertTrue((page.parent / link).exists(), f"{page.name}: {link}")

    def test_files_that_are_named_are_there(self):
        for page in PAGES:
            for quoted in re.findall(r"`([^`\n]+)`", read(page)):
                if OURS.fullmatch(quoted):
                    self.assertTrue((ROOT / quoted).exists(), f"{page.name}: {quoted}")

    def test_pages_that_the_program_names_are_there_or_told_of_in_contributing(self):
        told = re.findall(r"\b[\w-]+\.md\b", read(ROOT / "CONTRIBUTING.md"))
        known = {*told, *(each.name for each in PAGES)}
        sources = [*(ROOT / "plivotx").rglob("*.py"), *(ROOT / "plugins").glob("*.py")]
        named = {(each.name, page) for each in sources for page in re.findall(r"[\w-]+\.md\b", read(each))}
        self.assertIn(("main.py", "cli.md"), named)
        self.assertEqual([(file, page) for file, page in sorted(named) if page not in known], [])

    def test_every_folder_of_the_program_has_its_place_in_the_architecture(self):
        page = read(ROOT / "ARCHITECTURE.md")
        folders = [each.parent.name for each in (ROOT / "plivotx").glob("*/__init__.py")]
        self.assertIn("emulator", folders)
        for name in folders:
            self.assertIn(f"`plivotx/{name}/`", page)


class Scripts(SynchronousTestCase):
    def test_can_be_run_and_say_what_they_are_for(self):
        self.assertLessEqual(
            {"bootstrap", "demo", "run", "simulate", "test"}, {each.name for each in SCRIPTS}
        )
        for script in SCRIPTS:
            first, second, *_ = read(script).splitlines()
            self.assertRegex(first, r"^#!/bin/(ba)?sh$", script.name)
            self.assertRegex(second, r"^# [A-Z].{20,}", script.name)
            self.assertTrue(os.access(script, os.X_OK), script.name)

    def test_are_named_where_people_look_for_them(self):
        pages = read(ROOT / "README.md") + read(ROOT / "CONTRIBUTING.md")
        for script in SCRIPTS:
            self.assertRegex(pages, rf"(?m)(?:^|`){script.relative_to(ROOT)}\b", script.name)

    def test_are_good_shell(self):
        for script in SCRIPTS:
            shell = read(script).splitlines()[0].removeprefix("#!")
            ran = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""), script.name)

    def test_help_of_the_simulation_is_shown_without_any_preparation(self):
        shown = subprocess.run(
            [ROOT / "script" / "simulate", "--help"], capture_output=True, text=True, check=True
        )
        self.assertIn("script/simulate SEEDS=1000 FROM=0", shown.stdout)
        self.assertNotIn("set -eu", shown.stdout)

    def test_the_demo_takes_no_arguments_and_says_so_without_any_preparation(self):
        for argument, status in (("--help", 0), ("-h", 0), ("five", 2)):
            ran = subprocess.run(
                [ROOT / "script" / "demo", argument], capture_output=True, text=True, check=False
            )
            self.assertEqual((ran.returncode, ran.stderr), (status, ""))
            self.assertRegex(ran.stdout, r"^Make four calls.*\nIt takes no arguments\.\n$")


class Counts(SynchronousTestCase):
    """The last line of script/test, for what trial may say."""

    def last_line(self, said, status):
        project = Path(self.mktemp()).resolve()
        (project / "script").mkdir(parents=True)
        (project / ".venv" / "bin").mkdir(parents=True)
        test = project / "script" / "test"
        test.write_text(read(ROOT / "script" / "test"))
        for name, text in (
            ("script/bootstrap", "#!/bin/sh\n"),
            (".venv/bin/python", f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {status}\n"),
        ):
            (project / name).write_text(text)
            (project / name).chmod(0o755)
        ran = subprocess.run(["/bin/sh", test], capture_output=True, text=True, check=False)
        return ran.stdout.splitlines()[-1], ran.returncode

    def test_are_trials_own(self):
        for said, status, line, code in (
            ("PASSED (successes=12)", 0, "12 passed, 0 failed", 0),
            ("PASSED (skips=3, successes=12)", 0, "12 passed, 0 failed, 3 skipped", 0),
            ("FAILED (failures=1, errors=2, successes=3)", 1, "3 passed, 3 failed", 1),
            ("FAILED (skips=1, errors=10)", 1, "0 passed, 10 failed, 1 skipped", 1),
            ("PASSED (expectedFailures=1, successes=1)", 0, "2 passed, 0 failed", 0),
            ("FAILED (unexpectedSuccesses=1, successes=1)", 1, "1 passed, 1 failed", 1),
            ("PASSED (successes=99)\nFAILED (failures=1, successes=3)", 1, "3 passed, 1 failed", 1),
            ("PASSED (successes=12)", 1, "12 passed, 0 failed", 1),
        ):
            with self.subTest(said=said, status=status):
                self.assertEqual(self.last_line(said, status), (line, code))

    def test_are_missing_if_trial_died(self):
        self.assertEqual(self.last_line("Segmentation fault", 139), ("Segmentation fault", 1))
        self.assertEqual(self.last_line("PASSED", 0), ("PASSED", 1))
