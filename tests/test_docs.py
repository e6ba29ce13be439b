"""What is written about plivotx is true of it."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from plivotx import urls
from plivotx.config import Config, GatewayRules
from plivotx.config_file import GATEWAY_KEYS, KEYS, SWITCH_KEYS, Loaded, load
from plivotx.old_keys import SECTIONS
from plivotx.rest import app, forms
from tests.test_call_page import ALL_OF_THEM, parameters, told

ROOT = Path(__file__).resolve().parent.parent


def written(value):
    """A default as a file has it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


DEFAULTS = {key.upper(): written(getattr(Config(), key)) for key in KEYS}
SECTION_DEFAULTS = {
    **dict.fromkeys(SWITCH_KEYS),  # they have none
    **{key: written(getattr(GatewayRules(), key)) for key in GATEWAY_KEYS},
}
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
NEW, _, OLD = PAGE.partition("## Coming from an old default.conf")
SAMPLE = ROOT / "conf" / "plivotx.conf"


class Configuration(SynchronousTestCase):
    def test_the_page_has_a_row_for_each_key_in_order_with_its_default_and_meaning(self):
        rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)` )?\| (.+) \|$", PAGE, re.MULTILINE)
        self.assertEqual([(name, default) for name, default, _ in rows], list(DEFAULTS.items()))
        self.assertTrue(all(len(meaning) > 10 for _, _, meaning in rows))

    def test_the_page_has_a_row_for_each_key_of_the_other_sections(self):
        rows = re.findall(r"^\| `([a-z_]+)` \| (?:`?([^`|]*?)`? )?\| (.{10,}) \|$", NEW, re.MULTILINE)
        expected = {**SECTION_DEFAULTS, "address": "required", "password": "FS_INBOUND_PASSWORD"}
        self.assertEqual([(name, default) for name, default, _ in rows], list(expected.items()))

    def test_the_page_says_of_each_old_key_what_becomes_of_it(self):
        rows = re.findall(r"^\| `([a-z_]+)` \| `([A-Z_]+)` \| (.+) \|$", OLD, re.MULTILINE)
        expected = [
            (
                section,
                key,
                f"`{meaning.field.upper()}`"
                if meaning.field
                else f"a warning: {meaning.lacking}"
                if meaning.lacking
                else "not needed",
            )
            for section, keys in SECTIONS.items()
            for key, meaning in keys.items()
        ]
        self.assertEqual(rows, expected)

    def test_the_sections_that_the_page_shows_are_good(self):
        shown = re.findall(r"^```ini\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(shown), 2)
        path = Path(self.mktemp())
        path.write_text("".join(shown), encoding="utf-8")
        config, *remarks, _ = load(str(path), {})
        self.assertEqual(remarks, [(), ()])
        self.assertEqual([each.name for each in config.switches], ["east", "west"])
        self.assertEqual(config.rules("sofia/gateway/carrier1/").cool_down, 300)

    def test_the_sample_file_holds_each_key_as_a_comment_with_its_default_and_meaning(self):
        text = SAMPLE.read_text(encoding="utf-8")
        rows = re.findall(r"^# (.{10,})\n#([A-Za-z_]+) =(?: (.*))?$", text, re.MULTILINE)
        examples = {"address": "10.0.0.5:8021", "password": "secret"}
        self.assertEqual(
            [(name, default) for _, name, default in rows],
            list({**DEFAULTS, **SECTION_DEFAULTS, **examples}.items()),
        )

    def test_the_sample_file_changes_nothing_as_it_is_nor_without_the_comment_signs_of_its_keys(self):
        self.assertEqual(load(str(SAMPLE), {}), Loaded(Config()))
        bare = Path(self.mktemp())
        text = re.sub(r"^#(?=[A-Z_]+ =)", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        bare.write_text(text, encoding="utf-8")
        self.assertIn("\nLOG = ", text)
        self.assertEqual(load(str(bare), {})._replace(places={}), Loaded(Config()))
        without_address = text.replace("\nFS_INBOUND_ADDRESS", "\n#FS_INBOUND_ADDRESS")
        bare.write_text(
            re.sub(r"^#(?=\[|[a-z_]+ =)", "", without_address, flags=re.MULTILINE), encoding="utf-8"
        )
        loaded = load(str(bare), {})
        self.assertEqual([each.name for each in loaded.config.switches], ["east"])
        self.assertEqual([each.prefix for each in loaded.config.gateways], ["sofia/gateway/carrier1/"])
        self.assertEqual((loaded.warnings, loaded.notes), ((), ()))


class Calls(SynchronousTestCase):
    """What may be posted to /v0.1/Call/, and what the application is told of the call."""

    def table(self, page, heading):
        """The cells of each row under a heading, by the names in the first cell."""
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        (section,) = re.findall(
            rf"^## {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text, re.MULTILINE | re.DOTALL
        )
        found = {}
        for row in re.findall(r"^\| (`.+) \|$", section, re.MULTILINE):
            first, *cells = (cell.strip() for cell in re.split(r" (?:\| )+", row))
            for name in re.findall(r"`([A-Za-z-]+)`", first):
                self.assertNotIn(name, found)
                found[name] = cells
        return found

    def test_the_page_of_the_api_has_each_parameter_with_its_default_and_what_is_accepted(self):
        table = self.table("api.md", "POST /v0.1/Call/")
        self.assertEqual(set(table), parameters())
        self.assertEqual(
            [name for name, (default, *_) in table.items() if default == "required"], list(forms.MANDATORY)
        )
        self.assertEqual({len(cells) for cells in table.values()}, {3})
        for name, numbers in {
            **dict.fromkeys(("From", "To", "CallerName", "AccountSID"), (forms.MAX_TEXT,)),
            "Gateways": (forms.MAX_GATEWAYS, forms.MAX_TEXT),
            "AnswerUrl": (urls.MAX_LENGTH,),
            "GatewayTimeouts": (1, forms.MAX_TIMEOUT),
            "GatewayRetries": (1, forms.MAX_TRIES),
            "ExtraDialString": (forms.MAX_EXTRA,),
            "SendDigits": (forms.MAX_DIGITS, forms.DIGIT_MS[0], forms.DIGIT_MS[-1]),
            "TimeLimit": (1, forms.MAX_SECONDS),
            "HangupOnRing": (0, forms.MAX_SECONDS),
        }.items():
            accepted = re.findall(r"\b[0-9]+\b", table[name][1])
            for number in numbers:
                self.assertIn(str(number), accepted, name)

    def test_the_page_of_the_api_says_what_is_missing_of_v01(self):
        text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
        missing = re.search(r"^\* Not there yet, and answered 404: (.*?):", text, re.MULTILINE | re.DOTALL)[1]
        named = set(re.findall(r"\b[A-Z]\w+", missing))
        routes = {each for rule in app.Api.app.url_map.iter_rules() for each in str(rule).split("/")}
        self.assertIn("HangupCall", routes)
        self.assertIn("TransferCall", named)
        self.assertEqual(named & routes, set())

    def test_the_page_of_the_api_has_the_limits_of_every_request(self):
        text = " ".join((ROOT / "docs" / "api.md").read_text(encoding="utf-8").split())
        self.assertIn(f"at most {app.MAX_BODY // 2**20} MiB and {app.MAX_FIELDS} fields", text)
        self.assertIn(f"as a whole within {app.PATIENCE} s", text)

    def test_what_the_page_takes_for_a_good_example_is_taken(self):
        for name, value in {
            "GatewayCodecs": "'PCMA,PCMU',G729",
            "ExtraDialString": r"a='1,2',b=1\,2",
        }.items():
            forms.call_requested(
                {**ALL_OF_THEM, name: value}, "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa", lambda _: None
            )

    def test_the_page_of_the_application_has_each_parameter_that_it_is_told(self):
        table = self.table("application.md", "Parameters")
        self.assertEqual(set(table), told())
