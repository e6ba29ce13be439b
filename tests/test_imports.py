"""Who may import whom: the shape of plivotx, held by reading every file."""

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

PURE = (
    "plivotx.causes",
    "plivotx.config",
    "plivotx.ini",
    "plivotx.states",
    "plivotx.events",
    "plivotx.commands",
    "plivotx.urls",
    "plivotx.policies",
    "plivotx.projections",
    "plivotx.restxml",
    "plivotx.esl",
    "plivotx.rest.forms",
    "plivotx.handlers.signature",
    "plivotx.cli.text",
)
NOT_PURE = ("plivotx.esl.connections",)
WORLD = (
    "twisted",
    "klein",
    "treq",
    "time",
    "datetime",
    "random",
    "secrets",
    "os",
    "socket",
    "pathlib",
    "subprocess",
    "threading",
    "asyncio",
    "urllib.request",
)
"""What a pure module must not know: clocks, dice, input and output."""
FOR_PLUGINS = ("urls", "events", "commands", "projections", "restxml", "hookspecs", "config")


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether *module* is one of these packages or inside one."""
    return any(module == each or module.startswith(each + ".") for each in packages)


def imports(module: str, source: str, *, package: bool = False) -> set[str]:
    """Every module that this source imports, wherever it does so; ``from a import b`` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + package]
                base = ".".join([*parts, base] if base else parts)
            found.add(base)
            found.update(f"{base}.{each.name}" for each in node.names)
    return found


def why_not(module: str, imported: str) -> str:
    """Why *module* must not import that; empty if it may."""
    if within(module, PURE) and not within(module, NOT_PURE) and within(imported, WORLD):
        return "is pure"
    if within(module, ("plivotx.rest",)) and within(imported, ("plivotx.esl", "plivotx.handlers")):
        return "knows no more of the server than how to ask it"
    if within(imported, ("plivotx.service",)) and module != "plivotx.service":
        return "must not know who puts it together"
    if within(module, ("plivotx.emulator",)):
        if (
            within(imported, ("plivotx",))
            and imported != "plivotx"
            and not within(imported, ("plivotx.emulator", "plivotx.causes"))
        ):
            return "is a FreeSWITCH and knows nothing of plivotx"
    if within(module, ("plugins",)):
        if within(imported, ("plivotx",)) and not within(
            imported, tuple(f"plivotx.{each}" for each in FOR_PLUGINS)
        ):
            return "gets along with what every operator's plugin has"
        if within(imported, WORLD):
            return "is pure"
    return ""


def violations(sources: dict[str, str]) -> list[str]:
    """Every import that breaks a rule; *sources* by the name of the module."""
    return [
        f"{module} imports {imported}, but {why}"
        for module, source in sorted(sources.items())
        for imported in sorted(
            imports(module.removesuffix(".__init__"), source, package=module.endswith("__init__"))
        )
        if (why := why_not(module.removesuffix(".__init__"), imported))
    ]


def everything() -> dict[str, str]:
    """The sources of plivotx and of its plugins."""
    files = [*(ROOT / "plivotx").rglob("*.py"), *(ROOT / "plugins").glob("*.py")]
    return {
        ".".join(each.relative_to(ROOT).with_suffix("").parts): each.read_text(encoding="utf-8")
        for each in files
    }


class Imports(SynchronousTestCase):
    def test_keep_to_the_rules(self):
        sources = everything()
        for known in (
            "plivotx.events",
            "plivotx.policies.__init__",
            "plivotx.emulator.switch",
            "plugins.callbacks_v01",
        ):
            self.assertIn(known, sources)
        self.assertEqual(violations(sources), [])

    def test_of_a_file_that_is_named_in_a_rule_are_there_to_be_checked(self):
        modules = {each.removesuffix(".__init__") for each in everything()}
        self.assertLessEqual({*PURE, *NOT_PURE, "plivotx.rest", "plivotx.service"}, modules)
        self.assertLessEqual({f"plivotx.{each}" for each in FOR_PLUGINS}, modules)


class TheChecker(SynchronousTestCase):
    def found(self, module, source):
        return [each.partition(" imports ")[2].partition(",")[0] for each in violations({module: source})]

    def test_finds_what_is_planted(self):
        for module, source, bad in (
            ("plivotx.policies.dial_out", "import time", "time"),
            ("plivotx.policies.__init__", "import time as t, json", "time"),
            ("plivotx.projections.call", "from datetime import datetime", "datetime"),
            ("plivotx.restxml.script", "def f():\n    import os.path", "os.path"),
            ("plivotx.events", "from twisted.internet import reactor", "twisted.internet"),
            ("plivotx.commands", "import random", "random"),
            ("plivotx.esl.frames", "if 0:\n    import socket", "socket"),
            ("plivotx.esl.frames", "import twisted", "twisted"),
            ("plivotx.rest.forms", "from random import random", "random"),
            ("plivotx.handlers.signature", "from os import environ", "os"),
            ("plivotx.rest.app", "from plivotx.esl import frames", "plivotx.esl"),
            ("plivotx.rest.app", "from plivotx import handlers", "plivotx.handlers"),
            ("plivotx.rest.app", "from ..handlers.http import Web", "plivotx.handlers.http"),
            ("plivotx.rest.__init__", "from .. import esl", "plivotx.esl"),
            ("plivotx.server", "from plivotx.service import steady", "plivotx.service"),
            ("plivotx.server", "from . import service", "plivotx.service"),
            ("plivotx.emulator.switch", "from plivotx.esl.frames import Frame", "plivotx.esl.frames"),
            ("plivotx.emulator.switch", "from plivotx import config", "plivotx.config"),
            ("plivotx.emulator.switch", "from .. import config", "plivotx.config"),
            ("plivotx.causes", "import os", "os"),
            ("plivotx.config", "from pathlib import Path", "pathlib"),
            ("plugins.mine", "from plivotx.engine import Engine", "plivotx.engine"),
            ("plugins.mine", "import plivotx", "plivotx"),
            ("plugins.mine", "import time", "time"),
        ):
            with self.subTest(module=module, source=source):
                self.assertIn(bad, self.found(module, source))

    def test_lets_pass_what_is_allowed(self):
        for module, source in (
            ("plivotx.esl.connections", "from twisted.internet import defer\nimport random"),
            (
                "plivotx.policies.dial_out",
                "from plivotx.projections.call import Call\nimport timeit_not, osier",
            ),
            ("plivotx.handlers.http", "import time"),
            ("plivotx.rest.app", "from twisted.web import server\nfrom . import forms"),
            (
                "plivotx.emulator.switch",
                "from plivotx.emulator import causes\nfrom plivotx.causes import q850\nfrom . import events\nimport time",
            ),
            ("plivotx.service", "from plivotx import server"),
            (
                "plugins.mine",
                "from plivotx.restxml.script import Verb\nfrom plivotx.hookspecs import hookimpl",
            ),
        ):
            with self.subTest(module=module, source=source):
                self.assertEqual(self.found(module, source), [])
