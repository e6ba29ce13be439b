"""Documents of the application become verbs, or are refused with line, column and reason."""

from itertools import repeat
from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from plivotx import plugins
from plivotx.config import Config
from plivotx.restxml.attributes import about
from plivotx.restxml.document import MAX_CHARACTERS, MAX_DEPTH, MAX_ELEMENTS, DocumentError, parse
from plivotx.restxml.script import Verb


class Say(Verb, frozen=True, kw_only=True):
    """A verb with every kind of attribute."""

    loop: Annotated[int, Meta(ge=0, le=10)] = 1
    rate: float = 1.0
    loud: bool = False
    voice: str = "slt"


class Must(Verb, frozen=True, kw_only=True):
    """A verb that cannot do without its attribute."""

    url: str

    def __post_init__(self):
        if not self.url.startswith("http"):
            raise ValueError("url is no URL")


class Breaks(Verb, frozen=True, kw_only=True):
    """An operator's verb that raises where a document is read, or unfolds into what is no verb."""

    where: str = ""

    def check(self, config):
        if self.where == "check":
            raise KeyError("check")

    def unfold(self):
        if self.where == "unfold":
            raise SystemExit("unfold")
        return repeat(self) if self.where == "endless" else ("rubbish",)


class Fades(Verb, frozen=True, kw_only=True):
    """One whose numbers are lenient."""

    seconds: Annotated[float, about("how long", ge=0, le=5, lenient=True)] = 1.5
    steps: Annotated[int, about("how many", ge=0, le=5, lenient=True)] = 2


VERBS = {each.__name__: each for each in (Say, Must, Breaks, Fades)}
CONFIG = Config()
OURS = plugins.load([plugins.shipped()], CONFIG).verbs
PIECES = """
    < > </ /> <? ?> <!-- --> <![CDATA[ ]]> & ; " ' = <Response> </Response> <Response/> <Wait/> <Wait <Hangup/> length='5'
    length= length='x' reason='busy' <!DOCTYPE x> <!ENTITY &amp; &lt; &x; &#0; &#x41; &#xD800; xmlns='u' a:b <?xml version='1.0'
    encoding='latin-1' standalone='yes' Wait Response text é 你 😀
""".split()  # noqa: SIM905 - a list of quoted quotes can't be read


def one(text):
    """The one verb of a document with this content."""
    (verb,) = parse(f"<Response>{text}</Response>", VERBS, CONFIG)
    return verb


class Documents(SynchronousTestCase):
    def refused(self, text, why, line=None, column=None):
        error = self.assertRaises(DocumentError, parse, text, VERBS, CONFIG)
        self.assertIn(why, str(error))
        self.assertTrue(str(error).startswith(f"line {error.line}, column {error.column}: "), str(error))
        self.assertNotIn("line", error.why)
        if line is not None:
            self.assertEqual((error.line, error.column), (line, column), str(error))
        return error

    def test_with_a_verb_that_misbehaves_are_refused(self):
        for where, why in (
            ("check", "Breaks: its check raised KeyError('check')"),
            ("unfold", "Breaks: its unfold raised SystemExit('unfold')"),
            ("endless", f"Breaks unfolds into more than {MAX_ELEMENTS} verbs"),
            ("", "Breaks unfolds into 'rubbish', which is no verb"),
        ):
            self.refused(f"<Response>\n<Breaks where='{where}'/></Response>", why, 2, 1)


class Verbs(Documents):
    def test_come_in_their_order(self):
        self.assertEqual(
            parse(
                "<Response>\n <Say>a</Say> <!-- x -->\n<Must url='http://a'/><?pi x?><Say/></Response>",
                VERBS,
                CONFIG,
            ),
            (Say(text="a"), Must(url="http://a"), Say()),
        )

    def test_may_be_none_at_all(self):
        self.assertEqual(parse("<Response/>", VERBS, CONFIG), ())
        self.assertEqual(
            parse("<?xml version='1.0'?>\n<Response> text of no meaning </Response>\n", VERBS, CONFIG), ()
        )

    def test_have_the_attributes_of_their_fields(self):
        self.assertEqual(
            one("<Say loop='3' rate='1.5' loud='true' voice='Zoë &amp; 你'/>"),
            Say(loop=3, rate=1.5, loud=True, voice="Zoë & 你"),
        )

    def test_that_are_lenient_take_no_number_for_none_and_too_many_for_the_most(self):
        for value, seconds, steps in (
            ("4", 4.0, 4),
            ("2.25", 2.25, 2),
            ("9", 5.0, 5),
            ("5.5", 5.0, 2),
            ("", 1.5, 2),
            ("x", 1.5, 2),
            ("1e9", 1.5, 2),
            ("nan", 1.5, 2),
            ("\u0663", 1.5, 2),
            (str(10**30), 1.5, 2),
        ):
            with self.subTest(value=value):
                self.assertEqual(
                    one(f"<Fades seconds='{value}' steps='{value}'/>"), Fades(seconds=seconds, steps=steps)
                )
        for name, what in (("seconds", "a number"), ("steps", "a whole number")):
            self.refused(
                f"<Response><Fades {name}='-1'/></Response>",
                f"attribute {name}='-1' is wrong: it must be {what} from 0 to 5",
            )

    def test_ignore_attributes_they_do_not_know(self):
        self.assertEqual(
            one("<Say Loop='3' other='x' text='y' xmlns:a='u' a:loop='9'>t</Say>"), Say(text="t")
        )

    def test_have_their_text_with_white_space_reduced(self):
        self.assertEqual(one("<Say>\n  a\tb\r\n c\u2003d  </Say>").text, "a b c d")
        self.assertEqual(one("<Say>a<!-- x -->b<![CDATA[ <&> ]]>&#x41;&quot;</Say>").text, 'ab <&> A"')

    def test_are_read_whatever_encoding_was_declared(self):
        for name in ("iso-8859-1", "utf-16", "klingon"):
            text = f"<?xml version='1.0' encoding='{name}'?><Response><Say>é你</Say></Response>"
            self.assertEqual(parse(text, VERBS, CONFIG), (Say(text="é你"),))

    def test_of_ours_are_known(self):
        document = parse("<Response><Wait length='5'/><Hangup reason='busy'/></Response>", OURS, CONFIG)
        self.assertEqual([type(each).__name__ for each in document], ["Wait", "Hangup"])
        self.assertEqual((document[0].length, document[1].reason), (5, "busy"))


class Errors(Documents):
    def test_name_the_line_and_the_column(self):
        self.refused(
            "<Response>\n  <Nothing/></Response>",
            "unknown verb Nothing (known: Breaks, Fades, Must, Say)",
            2,
            3,
        )
        self.refused("<Response>\n<Say>\n</Response>", "not well-formed: mismatched tag", 3, 3)
        self.refused("<Response>\n\n <Say loop='11'/></Response>", "attribute loop='11' is wrong", 3, 2)
        self.refused("<Response><Say>é你<Must/></Say></Response>", "Must cannot stand inside Say", 1, 18)
        self.refused("<Other/>", "the root is Other, not Response", 1, 1)

    def test_name_the_wrong_attribute_and_its_value(self):
        for attributes, name, value in (
            ("loop='x'", "loop", "x"),
            ("loop=''", "loop", ""),
            ("loop='-1'", "loop", "-1"),
            ("loop='+1'", "loop", "+1"),
            ("loop='1_0'", "loop", "1_0"),
            ("loop='1.5'", "loop", "1.5"),
            ("loop='\u0665'", "loop", "\u0665"),
            (f"loop='{10**30}'", "loop", str(10**30)),
            ("voice='a' rate='fast'", "rate", "fast"),
        ):
            self.refused(
                f"<Response><Say {attributes}/></Response>", f"Say: attribute {name}={value!r} is wrong: "
            )

    def test_tell_of_an_attribute_that_is_missing(self):
        self.refused("<Response><Must/></Response>", "Must: attribute url is missing: it must be a text")

    def test_tell_what_a_verb_itself_refuses(self):
        self.refused("<Response><Must url='x'/></Response>", "Must: url is no URL")

    def test_come_before_any_verb_is_there(self):
        self.refused("<Response><Say/><Say/><Nothing/></Response>", "unknown verb")

    def test_are_made_for_names_that_python_knows(self):
        for name in ("os", "Verb", "__class__", "Response", "say"):
            self.refused(f"<Response><{name}/></Response>", f"unknown verb {name}")

    def test_are_made_for_other_name_spaces(self):
        self.refused("<Response xmlns='http://a'/>", "the root is {http://a}Response")
        self.refused("<Response><a:Say xmlns:a='b'/></Response>", "unknown verb {b}Say")

    def test_are_made_for_what_is_no_xml(self):
        for text in (
            "",
            " ",
            "\0",
            "Response",
            "<Response>",
            "<Response",
            "</Response>",
            "<Response/><Response/>",
            "<Response/>x",
            "<Response>\0</Response>",
            "<Response>\x0b</Response>",
            "<Response>&#0;</Response>",
            "<Response>&#xD800;</Response>",
            "<Response>\ud800</Response>",
            "<Response>&nbsp;</Response>",
            "<Response>&</Response>",
            "<Response><Say a='1' a='2'/></Response>",
            "<Response><Say a=1/></Response>",
            "<Response><a:Say/></Response>",
            " <?xml version='1.0'?><Response/>",
            '{"Response": []}',
        ):
            self.refused(text, "not well-formed")


class Attacks(Documents):
    def test_with_a_dtd_or_entities_are_refused(self):
        laughs = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
        for dtd in (
            "<!DOCTYPE Response>",
            "<!DOCTYPE Response SYSTEM 'http://a/b.dtd'>",
            "<!DOCTYPE Response PUBLIC '-//a//b' 'http://a/b.dtd'>",
            "<!DOCTYPE Response [<!ENTITY a 'b'>]>",
            "<!DOCTYPE Response [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>",
            "<!DOCTYPE Response [<!ENTITY % a SYSTEM 'http://a/'> %a;]>",
            f"<!DOCTYPE Response [<!ENTITY l0 'ha'>{laughs}]>",
        ):
            self.refused(
                dtd + "\n<Response><Say>&a;&l9;</Say></Response>", "a DTD or entities are not allowed", 1
            )
        self.refused("<?xml version='1.0'?>\n<!DOCTYPE a []><Response/>", "a DTD", 2, None)

    def refused(self, text, why, line=None, column=None):
        error = super().refused(text, why)
        if line is not None:
            self.assertEqual(error.line, line)

    def test_by_depth_are_refused(self):
        def nested(depth):
            return "<Response>" + "<Say>" * (depth - 1) + "</Say>" * (depth - 1) + "</Response>"

        self.refused(nested(MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH}")
        self.refused(nested(18_000), f"nested deeper than {MAX_DEPTH}")
        self.refused(nested(MAX_DEPTH), "cannot stand inside")

    def test_by_number_are_refused(self):
        self.assertEqual(
            len(parse(f"<Response>{'<Say/>' * (MAX_ELEMENTS - 1)}</Response>", VERBS, CONFIG)),
            MAX_ELEMENTS - 1,
        )
        self.refused(f"<Response>{'<Say/>' * MAX_ELEMENTS}</Response>", f"more than {MAX_ELEMENTS} elements")

    def test_by_length_are_refused(self):
        text = "<Response><Say>" + "é" * (MAX_CHARACTERS - 33) + "</Say></Response>"
        self.assertEqual(len(parse(text + " ", VERBS, CONFIG)[0].text), MAX_CHARACTERS - 33)
        self.refused(text + " " * (MAX_CHARACTERS - len(text) + 1), f"more than {MAX_CHARACTERS} characters")

    def test_by_many_attributes_and_long_names_are_survived(self):
        many = " ".join(f"a{n}='{n}'" for n in range(12_000))
        self.assertEqual(parse(f"<Response><Say {many}/></Response>", VERBS, CONFIG), (Say(),))

    def test_do_not_fill_the_log_with_their_names(self):
        for text in (
            f"<Response><{'a' * 100_000}/></Response>",
            f"<{'a' * 100_000}/>",
            f"<Response><Say><{'a' * 100_000}/></Say></Response>",
            f"<Response><Say loop='{'é' * 100_000}'/></Response>",
        ):
            self.assertLess(len(str(self.assertRaises(DocumentError, parse, text, VERBS, CONFIG))), 300)


class AnyText(SynchronousTestCase):
    def read(self, text):
        try:
            verbs = parse(text, OURS, CONFIG)
        except DocumentError as error:
            self.assertGreaterEqual(error.line, 1)
            self.assertGreaterEqual(error.column, 1)
        else:
            self.assertTrue(all(isinstance(each, Verb) for each in verbs))

    @given(st.text())
    def test_gives_verbs_or_an_error(self, text):
        self.read(text)

    @given(
        st.lists(
            st.sampled_from(PIECES) | st.sampled_from(list(" \n\0\ud800")) | st.text(max_size=3), max_size=25
        )
    )
    def test_that_looks_like_a_document_gives_verbs_or_an_error(self, pieces):
        self.read("".join(pieces))
        self.read("<Response>" + " ".join(pieces) + "</Response>")

    @given(
        st.sampled_from(["length", "reason", "schedule"]),
        st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    )
    def test_in_an_attribute_gives_verbs_or_an_error(self, name, value):
        value = value.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")
        self.read(f"<Response><Wait {name}='{value}'/><Hangup {name}='{value}'/></Response>")
