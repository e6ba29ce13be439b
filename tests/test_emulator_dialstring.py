"""The emulator's dial-string parser against what was seen on FreeSWITCH (NOTES.md, section 3, and the recordings)."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial import unittest

from plivotx.emulator import dialstring
from plivotx.emulator.dialstring import DialStringError, Leg, parse, separate
from plivotx.emulator.variables import Variables

HOSTILE = st.text(
    st.one_of(
        st.sampled_from("\\',{}[]<>|:_^= &()$\1\2\0ns/"), st.characters(codec=None, exclude_categories=[])
    )
)
WORDS = st.lists(
    st.sampled_from(
        [
            "\\",
            "'",
            '"',
            ",",
            "=",
            "^^;",
            "${",
            "{",
            "}",
            "[",
            "]",
            "<",
            ">",
            "|",
            ":_:",
            "n",
            "s",
            "a=b",
            "ARRAY::",
            "undef",
            "origination_nested_vars=true",
            "&park()",
            "x",
            " ",
            "error/",
            "sofia/gateway/g/1",
        ]
    )
).map("".join)


def legs(dial: str) -> list[Leg]:
    [branch] = parse(f"{dial} &park").branches
    return [leg for group in branch.groups for leg in group.legs]


def value(block: str, name: str = "x") -> str | None:
    """What a variable becomes on the channel of the first leg."""
    return legs(f"{block}sofia/gateway/self/100")[0].variables.get(name)


class Values(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(value("{x=1}"), "1")
        self.assertEqual(value("{y=2,x=a=b}"), "a=b")

    def test_quotes_are_eaten_by_the_split_at_blanks(self):
        self.assertEqual(value("{x='a b'}"), "a b")
        self.assertEqual(value("{x='a,b'}"), "a")  # orig_codec_quoted
        self.assertEqual(value("{x='a,y=1'}", "y"), "1")

    def test_escaped_comma(self):
        self.assertEqual(value("{x=PCMA\\,PCMU}"), "PCMA,PCMU")  # orig_codec_escaped
        self.assertEqual(value("{x=hello\\sthere}"), "hello there")  # orig_caller_id

    def test_an_odd_quote_swallows_the_rest(self):
        with self.assertRaises(DialStringError) as raised:
            parse("{x=it's}null/x &park")
        self.assertTrue(raised.exception.reply.startswith("-USAGE: <call url>"))
        self.assertEqual(value("{x=it" + "\\" * 7 + "'s,y=1}"), "it's")

    def test_another_delimiter(self):
        self.assertEqual(value("{^^;x=a,b;y=c}"), "a,b")
        self.assertEqual(value("{^^;x='a;b'}"), "a")
        self.assertEqual(value("{x=^^:PCMA:PCMU}"), "^^:PCMA:PCMU")

    def test_eight_backslashes_are_one_in_braces(self):
        self.assertEqual(value("{x=" + "\\" * 8 + "}"), "\\")
        self.assertEqual(value("{x=a" + "\\" * 4 + "nb}"), "a\nb")

    def test_thirty_two_backslashes_are_one_in_square_brackets(self):
        self.assertEqual(value("[x=" + "\\" * 32 + "]"), "\\")
        self.assertEqual(value("[x=a" + "\\" * 16 + "sb]"), "a b")
        self.assertEqual(value("[x=a\\,b\\|c]"), "a,b|c")

    def test_only_brackets_count(self):
        self.assertEqual(value("{x=a{b}c,y=1}"), "a{b}c")
        self.assertEqual(legs("{x=a}b}100")[0].endpoint, "b}100")
        self.assertEqual(legs("{x=a\\}b}100")[0].endpoint, "b}100")
        self.assertEqual(value("[x={][y=1]"), "{")

    def test_a_backslash_hides_the_end_of_a_block_from_the_splitting(self):
        for dial in ("<x=a\\>{y=1,z=2}null/q", "{x=a\\}[y=1,z=2]null/q"):
            [branch] = parse(f"{dial} &park()").branches
            self.assertTrue(branch.broken or all(group.broken for group in branch.groups), dial)
        self.assertEqual(legs("{x=a\\}null/q")[0].variables, {"x": "a\\"})
        self.assertEqual(legs("{x=a\\\\\\\\}[y=1,z=2]null/q")[0].endpoint, "null")

    def test_a_comma_after_an_odd_quote_is_no_separator_in_square_brackets(self):
        self.assertEqual(value("[x=it\\'s,w=1]"), "it's,w=1")
        self.assertEqual(value("[x=it\\'s][w=1]", "w"), "1")

    def test_bytes_1_and_2_are_commas_in_square_brackets(self):
        self.assertEqual(value("[x=a\1b]"), "a,b")
        self.assertEqual(value("[x=a\2w=1]", "w"), "1")

    def test_empty_values_set_nothing(self):
        self.assertIsNone(value("{x=}"))
        self.assertIsNone(value("{x=''}"))
        self.assertEqual(value("{x=1,x=''}"), "1")

    def test_arrays(self):
        self.assertEqual(value("{x=ARRAY::a|:b}"), "ARRAY::a|:b")
        self.assertEqual(value("{x=ARRAY::a}"), "a")

    def test_a_variable_in_a_value_drops_it(self):
        self.assertIsNone(value("{x=${uuid}}"))
        self.assertIsNone(value("{x=$\\\\{uuid}}"))
        self.assertEqual(value("{x=${uuid},y=1}", "y"), "1")
        self.assertEqual(value("{x=$uuid}"), "$uuid")

    def test_the_words_that_turn_the_check_off_may_stand_anywhere_in_any_case(self):
        self.assertEqual(value("{origination_nested_vars=true,x=${uuid}}"), "${uuid}")
        self.assertEqual(value("{name=Origination_Nested_Vars=TRUE,x=${uuid}}"), "${uuid}")
        self.assertEqual(legs("{x=${a}}null/origination_nested_vars=true")[0].variables["x"], "${a}")

    def test_names_in_any_case(self):
        self.assertEqual(legs("{X=1,x=2}null/x")[0].variables, {"x": "2"})

    def test_at_most_1024_variables(self):
        many = ",".join(f"v{i}={i}" for i in range(1030))
        self.assertEqual(
            value(f"{{{many}}}", "v1023"), ",".join(["1023", *(f"v{i}={i}" for i in range(1024, 1030))])
        )


class Precedence(unittest.TestCase):
    def test_three_kinds(self):  # orig_three_bracket_kinds
        [leg] = legs("<g=1,ga=1>{g=2,gb=2}[g=3,gc=3]sofia/gateway/self/100")
        self.assertEqual(leg.variables, {"gc": "3", "ga": "1", "g": "2", "gb": "2"})

    def test_local_var_clobber(self):  # orig_local_clobber
        self.assertEqual(value("{g=2,local_var_clobber=true}[g=3]", "g"), "3")

    def test_the_last_counts(self):  # orig_same_twice
        [leg] = legs("{g=1,g=2,h=1}{h=2}sofia/gateway/self/100")
        self.assertEqual((leg.variables["g"], leg.variables["h"]), ("2", "2"))


class Legs(unittest.TestCase):
    def test_endpoint_and_address(self):
        [leg] = legs("sofia/gateway/self/100")
        self.assertEqual((leg.endpoint, leg.address), ("sofia", "gateway/self/100"))
        self.assertIsNone(legs("nothing")[0].address)

    def test_comma_and_pipe(self):
        [branch] = parse("{a=1}[w=1]null/a,[w=2]null/b|[w=3]null/c &park").branches
        self.assertEqual(
            [[(leg.variables["w"], leg.address) for leg in group.legs] for group in branch.groups],
            [[("1", "a"), ("2", "b")], [("3", "c")]],
        )

    def test_enterprise(self):
        one, two = parse("<t=1>{who=one}null/3:_:{who=two}null/101 &park").branches
        self.assertEqual(
            one.groups[0].legs[0].variables, {"t": "1", "ignore_early_media": "true", "who": "one"}
        )
        self.assertEqual(two.groups[0].legs[0].variables["who"], "two")

    def test_enterprise_mark_counts_even_in_a_value(self):
        self.assertEqual(len(parse("{x=a:_:b}null/x &park").branches), 2)

    def test_braces_before_an_enterprise_list_belong_to_its_first(self):  # orig_enterprise_common_vars
        one, two = parse("{who=one}null/1:_:null/2 &park").branches
        self.assertIn("who", one.groups[0].legs[0].variables)
        self.assertNotIn("who", two.groups[0].legs[0].variables)

    def test_pipe_inside_braces_is_harmless(self):
        self.assertEqual(value("{x=a|b}"), "a|b")

    def test_a_blank_ends_the_dial_string(self):
        line = parse("null/100 &system(..) &park")
        self.assertEqual((line.target, line.dialplan), ("&system(..)", "&park"))


class Lines(unittest.TestCase):
    def test_usage(self):
        for line in ("", "x", "a b c d e f g h"):
            with self.assertRaises(DialStringError):
                parse(line)

    def test_unclosed_and_empty(self):  # orig_unclosed_brace, orig_empty
        self.assertTrue(parse("{a=1sofia/x &park").branches[0].broken)
        self.assertTrue(parse("{a=1} &park").branches[0].broken)

    def test_a_broken_block_of_a_later_leg(self):
        [group] = parse("null/1,[a null/2 &park").branches[0].groups[:1]
        self.assertTrue(group.broken)
        self.assertEqual(len(group.legs), 1)

    def test_application(self):
        self.assertEqual(parse("null/x &park").application, ("park", None))
        self.assertEqual(parse("null/x &park()").application, ("park", ""))
        self.assertEqual(parse("null/x '&playback(a b) c)'").application, ("playback", "a b"))
        self.assertIsNone(parse("null/x 100").application)

    def test_all_words(self):  # orig_timeout_arg
        line = parse("null/x &park XML default Name 1234 2")
        self.assertEqual(
            (line.dialplan, line.context, line.caller_id_name, line.caller_id_number, line.timeout),
            ("XML", "default", "Name", "1234", 2),
        )


class Properties(unittest.TestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.one_of(HOSTILE, WORDS))
    def test_no_text_raises_anything_else(self, text):
        for line in (text, f"{{{text}}}null/x &park", f"[{text}]null/x &park", f"null/{text} &park"):
            try:
                parse(line)
            except DialStringError as error:
                self.assertEqual(error.reply, dialstring.USAGE)

    @settings(max_examples=300, deadline=None)
    @given(HOSTILE, st.sampled_from(" ,=|;"), st.integers(1, 12))
    def test_never_more_pieces_than_asked_for(self, text, delimiter, most):
        self.assertLessEqual(len(separate(text, delimiter, most)), most)

    @settings(max_examples=300, deadline=None)
    @given(st.text("abc\\', \n=\té", max_size=12))
    def test_the_safe_form_arrives(self, text):
        """The escapes that were verified on a live FreeSWITCH with 5378 random values."""
        eight, letter = "\\" * 8, "\\" * 4
        table = {
            "\\": eight,
            "'": "\\" * 7 + "'",
            ",": "\\\\,",
            " ": letter + "s",
            "\n": letter + "n",
            "\t": letter + "t",
        }
        [leg] = legs("{x=" + "".join(table.get(char, char) for char in text) + ",guard=1}null/x")
        self.assertEqual(leg.variables, {"x": text, "guard": "1"} if text else {"guard": "1"})


class VariablesTests(unittest.TestCase):
    def test_arrays(self):  # in_value_encoding
        variables = Variables({"g_arr": "ARRAY::one|:two|:th ree"})
        self.assertEqual(variables["g_arr[1]"], "two")
        self.assertIsNone(variables.get("g_arr[7]"))
        variables.push("pushed", "first")
        variables.push("PUSHED", "second")
        self.assertEqual(variables["pushed"], "ARRAY::first|:second")

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.text("aAb[]19-", max_size=5), st.text("x:|ARAY", max_size=9)), max_size=9))
    def test_never_raises_and_stays_consistent(self, pairs):
        variables = Variables()
        for name, text in pairs:
            variables[name] = text
            variables.get(name)
        self.assertEqual(len(variables), len({name.lower() for name in variables}))
        self.assertTrue(all(variables.values()))
