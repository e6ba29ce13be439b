"""An INI file is cut into entries with their lines, and what is none is complained of."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.ini import parse

KEYS = st.text("ABCxyz_-", min_size=1, max_size=8)
VALUES = st.text("abc%$#=:[]\"'/. ", max_size=12).map(str.strip).filter(lambda each: each != '""')
FILES = st.lists(st.tuples(KEYS.map(str.lower), st.lists(st.tuples(KEYS, VALUES), max_size=4)), max_size=4)


def cut(text):
    """The sections of a text as plain lists, and the complaints."""
    complaints = []
    sections = parse(text, lambda line, why: complaints.append((line, why)))
    found = [
        (each.name, each.line, [(entry.key, entry.value, entry.line) for entry in each.entries])
        for each in sections
    ]
    return found, complaints


class Parsing(SynchronousTestCase):
    def entries(self, *lines):
        ((_, _, entries),), complaints = cut("\n".join(["[s]", *lines]))
        self.assertEqual(complaints, [])
        return [(key, value) for key, value, _ in entries]

    @given(
        FILES,
        st.sampled_from([" = ", "=", ": ", ":", " :"]),
        st.sampled_from(["\n", "\r\n", "\n\n", "\n# x = y\n"]),
    )
    def test_gives_back_what_was_written(self, sections, separator, end):
        text, line, expected = "", 1, []
        for name, entries in sections:
            text += f"[{name}]{end}"
            expected.append((name, line, found := []))
            line += end.count("\n")
            for key, value in entries:
                text += f"{key}{separator}{value}{end}"
                found.append((key, value, line))
                line += end.count("\n")
        self.assertEqual(cut(text), (expected, []))

    @given(st.text())
    def test_takes_any_text(self, text):
        sections, complaints = cut(text)
        lines = [line for _, line, _ in sections] + [line for line, _ in complaints]
        lines += [line for _, _, entries in sections for _, _, line in entries]
        self.assertEqual(len(lines), len(set(lines)))
        self.assertTrue(all(1 <= line <= text.count("\n") + 1 for line in lines))

    def test_leaves_comments_out(self):
        self.assertEqual(
            self.entries(
                "# A = 1", ";B = 2", "  # C", "D = 1 ; one", "E = a;b\t; c ; d", "F = ; none", "G = x # y"
            ),
            [("D", "1"), ("E", "a;b"), ("F", ""), ("G", "x # y")],
        )

    def test_continues_a_value_in_lines_that_are_indented_deeper(self):
        self.assertEqual(
            self.entries(
                "A = 1,", "  2, ; two", "# none", "", "\t3 = x", "B =", "  4", " C = 5", "  [6]", " D = 7"
            ),
            [("A", "1,\n2,\n3 = x"), ("B", "4\nC = 5\n[6]\nD = 7")],
        )
        self.assertEqual(self.entries("  A = 1", "  B = 2", "    3"), [("A", "1"), ("B", "2\n3")])

    def test_takes_a_pair_of_quotes_for_nothing(self):
        self.assertEqual(
            self.entries('A = ""', 'B = "x"', 'C = "" ; x'), [("A", ""), ("B", '"x"'), ("C", "")]
        )

    def test_knows_sections_by_their_words(self):
        self.assertEqual(cut("[ switch   a ] ; comment\n\n[b]\n"), ([("switch a", 1, []), ("b", 3, [])], []))

    def test_complains_of_each_line_that_is_none_and_quotes_no_value(self):
        self.assertEqual(
            cut("A = secret\n[s]\nsecret\n= secret\n[x\nB = 1\n[y] secret\n[]\n[t]\nC = 1"),
            (
                [("s", 2, []), ("t", 9, [("C", "1", 10)])],
                [
                    (1, "A stands before the first [section]"),
                    (3, "expected KEY = value"),
                    (4, "expected KEY = value"),
                    *((line, "a section begins with [NAME]") for line in (5, 7, 8)),
                ],
            ),
        )
