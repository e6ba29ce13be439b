"""What may be posted: each parameter is taken as it is, or refused by name."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config
from plivotx.events import Gateway, decode, encode
from plivotx.rest.forms import MANDATORY, NOT_YET, BadForm, call_requested
from plivotx.server import carriable

UUID = "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa"
FORM = {
    "From": "+15551234",
    "To": "+4930123",
    "Gateways": "sofia/gateway/self/",
    "AnswerUrl": "http://application.test/answer/",
}
URLS = ("AnswerUrl", "HangupUrl", "RingUrl")
NUMBERS = ("TimeLimit", "HangupOnRing")
KNOWN = (*MANDATORY, *URLS, *NUMBERS, "AccountSID", *NOT_YET)

HOSTILE = [
    "\0",
    "a\0b",
    "1\r\napi reload",
    "1\n2",
    "'",
    '"',
    "{",
    "}",
    "{a=b}",
    "[a=b]",
    "<a=b>",
    "1,2",
    "1|2",
    "${system(id)}",
    "$\\{system(id)}",
    "a:_:b",
    "&app(x)",
    "1 &system(id)",
    "1 2",
    "1;fs_path=x",
    "1?x",
    "مرحبا",
    "\u0665",
    "你好",
    "😀",
    "Zoë",
    "\ud800",
    "\\",
    "a\\'b",
    "^^:a:b",
    "ARRAY::a",
    "\x1b[31m",
    "\u2028",
    "mod_event_socket",
    " 1",
    "1 ",
]


def request(**fields):
    """The event for this form, with the check that the server makes."""
    return call_requested({**FORM, **fields}, UUID, carriable(Config()))


class Forms(SynchronousTestCase):
    def refused(self, **fields):
        """The complaint about the one field that is given; it has its name and its value."""
        ((name, value),) = fields.items()
        complaint = str(self.assertRaises(BadForm, request, **fields))
        shown = ascii(value) if len(value) <= 80 else ascii(value[:77] + "...")
        self.assertTrue(complaint.startswith(f"{name} is not Valid: {shown} "), complaint)
        self.assertTrue(complaint.isascii() and complaint.isprintable(), complaint)
        return complaint


class ACall(Forms):
    def test_is_recorded_as_it_was_asked_for(self):
        event = request(
            HangupUrl="https://a.test/h",
            RingUrl="http://b.test/r",
            TimeLimit="60",
            HangupOnRing="0",
            AccountSID="AC 1",
        )
        self.assertEqual(event.request_uuid, UUID)
        self.assertEqual((event.from_number, event.to_number), ("+15551234", "+4930123"))
        self.assertEqual(event.gateways, (Gateway(prefix="sofia/gateway/self/"),))
        self.assertEqual(event.answer_url, FORM["AnswerUrl"])
        self.assertEqual((event.hangup_url, event.ring_url), ("https://a.test/h", "http://b.test/r"))
        self.assertEqual((event.time_limit, event.hangup_on_ring), (60, 0))
        self.assertEqual(event.account_sid, "AC 1")

    def test_needs_no_more_than_the_four_mandatory_parameters(self):
        event = request()
        self.assertEqual((event.ring_url, event.account_sid), ("", ""))
        self.assertEqual((event.time_limit, event.hangup_on_ring), (None, None))

    def test_without_a_hangup_url_is_told_at_the_answer_url_that_it_ended(self):
        self.assertEqual(request().hangup_url, FORM["AnswerUrl"])
        self.assertEqual(request(HangupUrl="").hangup_url, FORM["AnswerUrl"])

    def test_lacks_each_mandatory_parameter_by_name(self):
        for name in MANDATORY:
            for fields in ({k: v for k, v in FORM.items() if k != name}, {**FORM, name: ""}):
                error = self.assertRaises(BadForm, call_requested, fields, UUID, carriable(Config()))
                self.assertEqual(str(error), f"Mandatory Parameters Missing: {name}")
        error = self.assertRaises(BadForm, call_requested, {}, UUID, carriable(Config()))
        self.assertEqual(str(error), "Mandatory Parameters Missing: From, To, Gateways, AnswerUrl")

    def test_takes_an_empty_parameter_for_a_missing_one(self):
        self.assertEqual(
            request(**dict.fromkeys((*URLS[1:], *NUMBERS, "AccountSID", *NOT_YET), "")), request()
        )

    def test_is_not_disturbed_by_parameters_of_no_meaning(self):
        self.assertEqual(request(Whatever="\0", to="1"), request())

    def test_is_refused_for_each_parameter_that_is_not_there_yet(self):
        for name in NOT_YET:
            for value in ("1", "false"):
                error = self.assertRaises(BadForm, request, **{name: value})
                self.assertEqual(str(error), f"{name} is not supported yet")


class Texts(Forms):
    def test_beyond_their_length_are_refused(self):
        for name in ("From", "To", "AccountSID"):
            request(**{name: "1" * 256})
            self.assertIn("longer than 256", self.refused(**{name: "1" * 257}))
        self.refused(Gateways="a" * 10_000)
        self.refused(Gateways="a" * 257)

    def test_that_would_do_something_on_the_switch_are_refused(self):
        for value in HOSTILE:
            for name in ("From", "To", "Gateways"):
                if (name, value) in {("From", "mod_event_socket"), ("Gateways", "ARRAY::a")}:
                    continue  # the one can be hidden, the other is not at the start of a value
                with self.subTest(name=name, value=value):
                    self.refused(**{name: value})

    def test_that_stay_with_us_may_hold_anything_that_is_text(self):
        for value in HOSTILE:
            if "\0" in value or "\ud800" in value:
                self.refused(AccountSID=value)
            else:
                self.assertEqual(request(AccountSID=value).account_sid, value)

    def test_are_not_trimmed(self):
        self.assertEqual(request(AccountSID=" a ").account_sid, " a ")
        self.refused(From=" ")

    def test_to_may_name_a_host_only_where_no_gateway_is_passed_by(self):
        self.refused(To="1@evil.test")
        self.refused(To="sip:1@evil.test")
        self.assertEqual(request(Gateways="user/", To="1@host").to_number, "1@host")
        self.refused(Gateways="sofia/gateway/self/1@evil.test/")

    def test_to_and_gateway_are_looked_at_together(self):
        self.refused(Gateways="loopback/a:_:b")
        error = self.assertRaises(BadForm, request, Gateways="user/mod_event_", To="socket")
        self.assertIn("To is not Valid: 'socket' makes the name of", str(error))

    def test_of_several_gateways_are_not_supported_yet(self):
        self.assertIn("not supported yet", self.refused(Gateways="a/,b/"))
        self.assertIn("more than 32 entries", self.refused(Gateways="a/," * 40))


class Urls(Forms):
    def test_are_kept_character_for_character(self):
        for url in (
            "http://a",
            "http://a?x=1",
            "http://a.b-c.test:8080/x%20y/?q=%7e&&e=#f",
            "https://A.test./",
            "http://127.0.0.1:65535/",
            "http://[::1]:80/",
            "http://[2001:db8::1]/",
            "http://xn--bcher-kva.example/",
            "http://a/'\"<>{}|\\^`[]${system(id)},:_:&app(x)@host",
        ):
            for name in URLS:
                event = request(**{name: url})
                stored = {
                    "AnswerUrl": event.answer_url,
                    "HangupUrl": event.hangup_url,
                    "RingUrl": event.ring_url,
                }
                self.assertEqual(stored[name], url)

    def test_that_cannot_be_requested_are_refused(self):
        for url, why in {
            "a.test/x": "begin with",
            "ftp://a.test/": "begin with",
            "HTTP://a.test/": "begin with",
            "javascript:alert(1)": "begin with",
            " http://a.test/": "begin with",
            "http://a.test/ x": "percent-encode",
            "http://a.test/\r\nX: y": "percent-encode",
            "http://a.test/\0": "percent-encode",
            "http://a.test/é": "percent-encode",
            "http://bücher.test/": "percent-encode",
            "http://点.test/": "percent-encode",
            "http://a.test/\n": "percent-encode",
            "http://a.test/%": "encodes nothing",
            "http://a.test/%4": "encodes nothing",
            "http://a.test/%zz": "encodes nothing",
            "http://%41.test/": "name a host",
            "http://": "name a host",
            "http:///x": "name a host",
            "http://?a": "name a host",
            "http://a_b.test/": "name a host",
            "http://-a.test/": "name a host",
            "http://a-.test/": "name a host",
            "http://a..test/": "name a host",
            "http://./": "name a host",
            "http://a\\b/": "name a host",
            "http://" + "a" * 64 + ".test/": "name a host",
            "http://" + "a." * 127 + "test/": "name a host",
            "http://${system(id)}/": "name a host",
            "http://[]/": "URL",
            "http://[::1/": "URL",
            "http://[1.2.3.4]/": "",
            "http://[fe80::1%25eth0]/": "",
            "http://a.test:0/": "port",
            "http://a.test:/": "port",
            "http://a.test:99999/": "out of range",
            "http://a.test:x/": "Port",
            "http://a.test:-1/": "Port",
            "http://a:b@c.test/": "credentials",
            "http://a@c.test/": "credentials",
            "http://@c.test/": "credentials",
        }.items():
            for name in URLS:
                with self.subTest(name=name, url=url):
                    self.assertIn(why, self.refused(**{name: url}))

    def test_beyond_their_length_are_refused(self):
        longest = "http://a.test/" + "x" * 2034
        self.assertEqual(request(RingUrl=longest).ring_url, longest)
        self.assertIn("longer than 2048", self.refused(RingUrl=longest + "x"))


class Numbers(Forms):
    def test_are_integers_in_ascii_digits(self):
        self.assertEqual(request(TimeLimit="1").time_limit, 1)
        self.assertEqual(request(TimeLimit="007").time_limit, 7)
        self.assertEqual(request(TimeLimit="10000000").time_limit, 10_000_000)
        self.assertEqual(request(HangupOnRing="0").hangup_on_ring, 0)

    def test_of_any_other_kind_are_refused_and_never_ignored(self):
        for value in (
            "-1",
            "+5",
            "1.5",
            "5.0",
            " 5",
            "5 ",
            "5\n",
            "\u0665",
            "五",
            "²",
            "0x5",
            "1e3",
            "1_0",
            "ten",
            "none",
            str(10**30),
            "9" * 5000,
            "10000001",
            "0" * 11,
            "\0",
        ):
            for name in NUMBERS:
                with self.subTest(name=name, value=value):
                    self.refused(**{name: value})

    def test_time_limit_is_above_zero(self):
        self.assertIn("from 1 to", self.refused(TimeLimit="0"))


class AnyForm(SynchronousTestCase):
    @given(
        st.dictionaries(
            st.sampled_from(KNOWN) | st.text(max_size=8),
            st.sampled_from(HOSTILE)
            | st.text(max_size=20)
            | st.just("http://a.test/")
            | st.integers().map(str),
            max_size=6,
        ),
        st.lists(st.sampled_from(sorted(FORM)), max_size=4),
    )
    def test_gives_an_event_with_exactly_its_texts_or_a_complaint_that_names_a_field(self, fields, without):
        fields = {**{k: v for k, v in FORM.items() if k not in without}, **fields}
        try:
            event = call_requested(fields, UUID, carriable(Config()))
        except BadForm as error:
            self.assertTrue(any(name in str(error) for name in KNOWN), error)
            self.assertTrue(str(error).isascii())
            return
        given = {name: fields.get(name, "") for name in KNOWN}
        self.assertEqual(event.from_number, given["From"])
        self.assertEqual(event.to_number, given["To"])
        self.assertEqual([each.prefix for each in event.gateways], [given["Gateways"]])
        self.assertEqual(event.answer_url, given["AnswerUrl"])
        self.assertEqual(event.hangup_url, given["HangupUrl"] or given["AnswerUrl"])
        self.assertEqual(event.ring_url, given["RingUrl"])
        self.assertEqual(event.account_sid, given["AccountSID"])
        for got, name in ((event.time_limit, "TimeLimit"), (event.hangup_on_ring, "HangupOnRing")):
            self.assertEqual(got, int(given[name]) if given[name] else None)
        self.assertFalse(any(given[name] for name in NOT_YET))
        self.assertEqual(decode(encode(event)), event)

    def test_is_refused_with_the_complaint_of_the_check_where_that_names_no_field(self):
        def check(event):
            raise ValueError("channel is no UUID")

        error = self.assertRaises(BadForm, call_requested, FORM, UUID, check)
        self.assertEqual(str(error), "channel is no UUID")
