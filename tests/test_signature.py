"""Requests to the application are made up and signed as the v0.1 API has it."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.handlers.signature import prepare, sign

TOKEN = "token"
BASE = "http://127.0.0.1:5000/ringing/"
PARAMS = (("CallUUID", "97ceeb52"), ("From", "1000"), ("To", "2000"), ("CallStatus", "ringing"))
Q = {"q": "two words&more"}

# number, URL, what goes with the parameters, the signature as v0.1 sent it
VECTORS = [
    (1, "", {}, "oRiCvr40elCJsQwSwLxz248WLgQ="),
    (2, "?a=b", {"a": "b"}, "+tP2oI0uWZy+Xiyr6nF0/wr23hI="),
    (3, "?CallUUID=97ceeb52&From=1000&To=2000&CallStatus=ringing&a=b", {"a": "b"}, "XAqa2q7UfMkdpJEWSJoGAItNL+Q="),
    (4, "?a=b&CallUUID=97ceeb52&From=1000&CallStatus=ringing&To=2000", {"a": "b"}, "k45rGH3ZnshUGIPdXpTJfB6fG3U="),
    (5, "?a=b&From=9&e=&a=c", {"a": "c", "From": "9"}, "EUoz3Wbc3FzZziLj50TzlgVJaDk="),
    (6, "?q=two+words%26more", Q, "/drgi/vbCXn0kzw3hjP21jZiF4Q="),
    (7, "?q=two+words%26more&CallUUID=97ceeb52&From=1000&CallStatus=ringing&To=2000", Q, "OA6tc+DngeHBNRzsk2aaULV0bgU="),
    (8, "", {"CallerName": ""}, "I9zsgshD6X3RNGgQOYevf3SBg4A="),
]  # fmt: skip


def body(prepared):
    """The fields of a body."""
    return dict(parse_qsl(prepared.body.decode("ascii"), keep_blank_values=True, errors="strict"))


class Signing(SynchronousTestCase):
    def test_every_vector_of_v01_is_met(self):
        for number, query, more, signature in VECTORS:
            with self.subTest(number=number):
                self.assertEqual(sign(TOKEN, BASE + query, {**dict(PARAMS), **more}), signature)

    def test_text_beyond_ascii_is_signed_as_utf8(self):
        self.assertEqual(
            sign(TOKEN, BASE, {"CallStatus": "ringing", "CallerName": "Zoë"}), "oGPVkzple3XIswUI7S/jSzKAB/E="
        )

    def test_the_order_of_the_parameters_does_not_matter_and_upper_case_comes_first(self):
        params = {"b": "1", "B": "2", "a": "3"}
        self.assertEqual(sign(TOKEN, "u", params), sign(TOKEN, "u", dict(reversed(params.items()))))
        self.assertEqual(sign(TOKEN, "u", params), sign(TOKEN, "uB2a3b1", {}))

    def test_another_token_another_url_or_another_value_is_another_signature(self):
        signatures = {
            sign("token", BASE, {"a": "b"}),
            sign("tokem", BASE, {"a": "b"}),
            sign("token", BASE + "?", {"a": "b"}),
            sign("token", BASE, {"a": "c"}),
        }
        self.assertEqual(len(signatures), 4)


class APost(SynchronousTestCase):
    def test_keeps_the_url_as_it_is(self):
        for url in (
            BASE,
            BASE + "?a=b",
            BASE + "?a=b&a=c&e=",
            BASE + "#f",
            BASE + "?a=b#f",
            "http://H:80?",
            "http://h",
        ):
            self.assertEqual(prepare("POST", url, PARAMS).url, url)

    def test_carries_the_parameters_and_those_of_the_query_in_its_body(self):
        prepared = prepare("POST", BASE + "?a=b&q=two+words%26more", PARAMS)
        self.assertEqual(body(prepared), {**dict(PARAMS), "a": "b", **Q})
        self.assertEqual(prepared.params, body(prepared))

    def test_signs_what_the_vectors_say(self):
        for number, query, _, signature in VECTORS:
            if number in (1, 2, 6):
                prepared = prepare("POST", BASE + query, PARAMS)
                self.assertEqual(sign(TOKEN, prepared.url, prepared.params), signature)
        prepared = prepare("POST", BASE, (*PARAMS, ("CallerName", "")))
        self.assertEqual(sign(TOKEN, prepared.url, prepared.params), VECTORS[7][3])

    def test_of_a_repeated_name_in_the_query_sends_the_last_and_no_blank_one(self):
        prepared = prepare("POST", BASE + "?a=b&e=&a=c", PARAMS)
        self.assertEqual(body(prepared), {**dict(PARAMS), "a": "c"})

    def test_does_not_let_the_query_replace_what_we_say(self):
        # Defect 26 of v0.1, as in vector 5: From=9 of the query stood in for the caller.
        prepared = prepare("POST", BASE + "?a=b&From=9&e=&a=c", PARAMS)
        self.assertEqual(body(prepared)["From"], "1000")
        self.assertEqual(prepared.params["From"], "1000")

    def test_does_not_take_a_fragment_for_a_query(self):
        self.assertEqual(body(prepare("POST", BASE + "#f?a=b", PARAMS)), dict(PARAMS))
        self.assertEqual(body(prepare("POST", BASE + "?a=b#f", PARAMS))["a"], "b")

    def test_sends_blanks_as_plus_and_text_as_utf8(self):
        self.assertEqual(prepare("POST", BASE, (("N", "Zoë B"),)).body, b"N=Zo%C3%AB+B")


class AGet(SynchronousTestCase):
    def test_has_no_body_and_all_parameters_in_one_new_query(self):
        prepared = prepare("GET", BASE + "?a=b", PARAMS)
        self.assertIsNone(prepared.body)
        self.assertEqual(dict(parse_qsl(urlsplit(prepared.url).query)), {**dict(PARAMS), "a": "b"})
        self.assertEqual(prepared.url.partition("?")[0], BASE)

    def test_leaves_the_fragment_out_where_v01_lost_the_parameters_in_it(self):
        for url in ("http://x/#f", "http://x/#f?a=b", "http://x/?c=d#f"):
            prepared = prepare("GET", url, PARAMS)
            self.assertTrue(prepared.url.startswith("http://x/?"))
            self.assertNotIn("#", prepared.url)
            self.assertNotIn("a", prepared.params)

    def test_keeps_text_and_an_empty_value_of_ours(self):
        prepared = prepare("GET", BASE, (("CallerName", ""), ("N", "Zoë B&c")))
        self.assertEqual(prepared.url, BASE + "?CallerName=&N=Zo%C3%AB+B%26c")

    def test_without_any_parameter_is_the_url(self):
        self.assertEqual(prepare("GET", BASE, ()).url, BASE)

    def test_is_signed_over_the_url_that_is_sent(self):
        prepared = prepare("GET", BASE + "?a=b", PARAMS)
        text = prepared.url + "CallStatusringingCallUUID97ceeb52From1000To2000ab"
        self.assertEqual(sign(TOKEN, prepared.url, prepared.params), sign(TOKEN, text, {}))


class AnyRequest(SynchronousTestCase):
    @given(
        st.sampled_from(["GET", "POST"]),
        st.dictionaries(st.text(min_size=1), st.text(), min_size=1),
        st.text(st.characters(min_codepoint=33, max_codepoint=126)),
    )
    def test_carries_exactly_our_parameters_whatever_they_and_the_url_hold(self, method, params, query):
        try:
            "".join([*params, *params.values()]).encode()
        except UnicodeEncodeError:
            return  # half a character: `plivotx.rest.forms` refuses it
        prepared = prepare(method, BASE + "?" + query, tuple(params.items()))
        sent = (
            body(prepared)
            if prepared.body is not None
            else dict(parse_qsl(urlsplit(prepared.url).query, keep_blank_values=True))
        )
        self.assertEqual({**sent, **params}, sent)
        self.assertEqual(sent, prepared.params)
        self.assertEqual(len(sign(TOKEN, prepared.url, prepared.params)), 28)


class TheExampleForApplications(SynchronousTestCase):
    """docs/application.md shows how an application verifies a request."""

    def setUp(self):
        page = (Path(__file__).resolve().parent.parent / "docs" / "application.md").read_text(
            encoding="utf-8"
        )
        examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        (example,) = (each for each in examples if "def is_signed" in each)
        names = {}
        exec(example, names)
        self.is_signed = names["is_signed"]

    def test_takes_what_v01_signed(self):
        for number, query, more, signature in VECTORS:
            url = BASE + query
            body = urlencode({**dict(PARAMS), **more})
            with self.subTest(number=number):
                if number in (3, 4, 7):
                    self.assertTrue(self.is_signed(TOKEN, "GET", url, "", signature))
                else:
                    self.assertTrue(self.is_signed(TOKEN, "POST", url, body, signature))

    def test_takes_what_is_sent_and_nothing_else(self):
        params = (*PARAMS, ("CallerName", ""), ("Name", "Zoë & co"))
        for method in ("GET", "POST"):
            for url in (BASE, BASE + "?a=b&From=9&e=&a=c", "http://h", "http://h?q=two+words%26more"):
                sent = prepare(method, url, params)
                signature = sign(TOKEN, sent.url, sent.params)
                text = (sent.body or b"").decode()
                self.assertTrue(self.is_signed(TOKEN, method, sent.url, text, signature))
                self.assertFalse(self.is_signed("tokem", method, sent.url, text, signature))
                self.assertFalse(self.is_signed(TOKEN, method, sent.url + "x", text, signature))
                self.assertFalse(self.is_signed(TOKEN, "POST", sent.url, text + "&x=y", signature))
