"""What may be posted: each parameter is taken as it is, or refused by name."""

from string import ascii_lowercase
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import Config
from plivotx.events import Gateway, decode, encode
from plivotx.rest.forms import MANDATORY, PARAMETERS, BadForm, call_requested, misspelt
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
LISTS = ("GatewayCodecs", "GatewayTimeouts", "GatewayRetries")
KNOWN = (
    *MANDATORY,
    *URLS,
    *NUMBERS,
    *LISTS,
    "AccountSID",
    "CallerName",
    "ExtraDialString",
    "SendDigits",
    "SendOnPreanswer",
)

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
        optional = [name for name in KNOWN if name not in MANDATORY]
        self.assertEqual(request(**dict.fromkeys(optional, "")), request())

    def test_is_not_disturbed_by_parameters_of_no_meaning(self):
        self.assertEqual(request(Whatever="\0", to="1"), request())


class Names(SynchronousTestCase):
    def test_are_known_all(self):
        self.assertEqual(set(PARAMETERS), set(KNOWN))

    def test_that_differ_from_a_parameter_only_in_case_are_found(self):
        self.assertEqual(
            misspelt({**FORM, "Timelimit": "5", "other": "", "TO": "1"}),
            [("Timelimit", "TimeLimit"), ("TO", "To")],
        )
        self.assertEqual(misspelt(dict.fromkeys(KNOWN, "")), [])


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
                if name == "Gateways" and value in ("1,2", " 1", "1 "):
                    continue  # a list, and blanks around an entry
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


class Gateways(Forms):
    def gateways(self, **fields):
        return request(**{"Gateways": "a/,b/,c/", **fields}).gateways

    def test_are_tried_in_their_order_once_each_for_sixty_seconds_with_the_codecs_of_the_switch(self):
        self.assertEqual(self.gateways(), tuple(Gateway(each, 60, 1, "") for each in ("a/", "b/", "c/")))

    def test_have_each_their_own_of_the_other_lists(self):
        self.assertEqual(
            self.gateways(
                GatewayTimeouts="10,20,30", GatewayRetries="1,2,3", GatewayCodecs="'PCMA,PCMU',G729,\"opus\""
            ),
            (Gateway("a/", 10, 1, "PCMA,PCMU"), Gateway("b/", 20, 2, "G729"), Gateway("c/", 30, 3, "opus")),
        )

    def test_behind_the_end_of_a_shorter_list_have_the_defaults(self):
        self.assertEqual([each.timeout for each in self.gateways(GatewayTimeouts="10")], [10, 60, 60])
        self.assertEqual([each.tries for each in self.gateways(GatewayRetries="2")], [2, 1, 1])
        self.assertEqual([each.codecs for each in self.gateways(GatewayCodecs="PCMA")], ["PCMA", "", ""])

    def test_of_an_empty_entry_have_the_default(self):
        self.assertEqual([each.timeout for each in self.gateways(GatewayTimeouts="10,,30")], [10, 60, 30])
        self.assertEqual([each.tries for each in self.gateways(GatewayRetries=", 2 ,")], [1, 2, 1])
        self.assertEqual([each.codecs for each in self.gateways(GatewayCodecs=",'',X")], ["", "", "X"])

    def test_do_not_mind_surplus_entries_of_other_lists(self):
        self.assertEqual(
            self.gateways(GatewayTimeouts="1,2,3,4", GatewayRetries="1,1,1,9", GatewayCodecs="A,B,C,D"),
            tuple(Gateway(f"{name}/", n, 1, name.upper()) for n, name in enumerate("abc", 1)),
        )

    def test_with_an_entry_that_is_no_number_or_below_one_are_refused(self):
        for name in ("GatewayTimeouts", "GatewayRetries"):
            for value in ("x", "0", "-1", "1.5", "5,0", "5,x,7", "1,2,3,0", "\u0665", "10000000000", "9999"):
                with self.subTest(name=name, value=value):
                    self.assertIn(", which is no integer from 1 to", self.refused(**{name: value}))

    def test_that_make_too_many_attempts_are_refused(self):
        self.assertEqual(sum(each.tries for each in self.gateways(GatewayRetries="50,25,25")), 100)
        complaint = self.assertRaises(BadForm, self.gateways, GatewayRetries="50,25,26")
        self.assertIn("GatewayRetries is not Valid: '50,25,26' makes more than 100 attempts", str(complaint))

    def test_have_no_empty_entry_and_are_not_too_many(self):
        for value in ("a/,", ",a/", "a/,,b/", ",", " "):
            self.assertIn("empty", self.refused(Gateways=value))
        self.assertIn("more than 32 entries", self.refused(Gateways=",".join(["a/"] * 33)))

    def test_with_a_list_of_codecs_that_is_none_are_refused(self):
        for value in ("'PCMA", "PCMA;x", "PC MA", "^^:a", "'a,,b'", "a'b'|"):
            with self.subTest(value=value):
                self.refused(GatewayCodecs=value)

    def test_of_sofia_without_their_last_slash_are_refused(self):
        self.assertIn("lacks the / behind the gateway's name", self.refused(Gateways="sofia/gateway/self"))
        self.assertEqual(
            request(Gateways="sofia/gateway/self/00").gateways[0].prefix, "sofia/gateway/self/00"
        )

    def test_are_each_looked_at(self):
        error = self.assertRaises(BadForm, request, Gateways="user/,sofia/gateway/a/", To="1@host")
        self.assertIn("To is not Valid: '1@host' names a host", str(error))
        self.refused(Gateways="a/,b/ &system(id)")


class Fraud(SynchronousTestCase):
    """What the operator does not let be dialled."""

    def complaint(self, config, **fields):
        form = {**FORM, **fields}
        return str(self.assertRaises(BadForm, call_requested, form, UUID, carriable(config)))

    def test_is_kept_out_by_gateway_and_by_destination(self):
        config = Config(allowed_gateways=("sofia/gateway/self/",), denied_destinations=("+4930",))
        call_requested({**FORM, "To": "+4940"}, UUID, carriable(config))
        complaint = self.complaint(config, To="+4940", Gateways="sofia/gateway/self/,loopback/")
        self.assertIn("Gateways is not Valid: 'sofia/gateway/self/,loopback/' ", complaint)
        self.assertIn("To is not Valid: '+4930123' ", self.complaint(config))

    def test_needs_leave_to_execute_anything(self):
        fields = {**FORM, "ExtraDialString": "execute_on_ring_9=x"}
        allowing = Config(allowed_variables=("execute_on_*",))
        event = call_requested(fields, UUID, carriable(allowing))
        self.assertEqual(event.variables, (("execute_on_ring_9", "x"),))
        self.complaint(Config(), ExtraDialString="execute_on_ring_9=x")

    def test_needs_leave_to_call_past_the_gateway(self):
        denying = Config(denied_destinations=("+1900",))
        for variable in ("sip_invite_req_uri=sip:+1900555@carrier.test", "sip_route_uri=sip:elsewhere.test"):
            complaint = self.complaint(denying, ExtraDialString=variable)
            self.assertIn("leads the call elsewhere; the operator has not allowed it", complaint)

    def test_of_the_servers_time_takes_little(self):
        """As many variables, gateways and tries as a form can have: every other call waits meanwhile."""
        names = [f"{a}{b}" for a in ascii_lowercase for b in ascii_lowercase + "0123456789"][:800]
        form = FORM | {
            "Gateways": ",".join(f"sofia/gateway/g{number}/" for number in range(32)),
            "GatewayRetries": ",".join(["3"] * 32),
            "ExtraDialString": ",".join(f"{name}=1" for name in names),
        }
        begin = process_time()
        event = call_requested(form, UUID, carriable(Config()))
        self.assertEqual(len(event.variables), 800)
        self.assertLess(process_time() - begin, 2)  # it takes 0.1 s; it took 10


class Digits(Forms):
    def test_are_taken_as_the_documentation_has_them(self):
        for value in ("1", "0123456789ABCD*#", "wW1", "1w2W3@500", "ww", "1@51", "1@24000", "1" * 99):
            self.assertEqual(request(SendDigits=value).send_digits, value)
        self.assertIs(request(SendDigits="1").send_on_preanswer, False)

    def test_of_any_other_kind_are_refused(self):
        for value in (
            "a", "1 2", "1,2", "1@", "@200", "1@x", "1@50", "1@24001", "1@-1", "1@1@1", "p1", "\u0665", "1\n",
            "1'", "1" * 100, "1@1000000",
        ):  # fmt: skip
            with self.subTest(value=value):
                self.refused(SendDigits=value)

    def test_are_sent_in_early_media_only_if_that_is_said(self):
        for value, meaning in {"true": True, "false": False, "True": True, "FALSE": False, "": False}.items():
            self.assertIs(request(SendOnPreanswer=value).send_on_preanswer, meaning)
        for value in ("1", "yes", " true", "truefalse"):
            self.assertIn("neither true nor false", self.refused(SendOnPreanswer=value))


class ExtraDialString(Forms):
    def variables(self, text):
        return request(ExtraDialString=text).variables

    def test_is_names_and_values(self):
        for text, pairs in {
            "a=1": [("a", "1")],
            "bridge_early_media=true,hangup_after_bridge=true": [
                ("bridge_early_media", "true"),
                ("hangup_after_bridge", "true"),
            ],
            "a=b=c": [("a", "b=c")],
            "a=": [("a", "")],
            " a = 1 , b=2 ,": [("a", "1"), ("b", "2")],
            "a='1,2',b=3": [("a", "1,2"), ("b", "3")],
            r"a=1\,2,b=\'3\'": [("a", "1,2"), ("b", "'3'")],
            r"a=x\\y\z": [("a", r"x\y\z")],
            "sip_h_X-Account=7": [("sip_h_X-Account", "7")],
            "a=Zoë 😀": [("a", "Zoë 😀")],
            "ignore_early_media=true": [("ignore_early_media", "true")],
        }.items():
            with self.subTest(text=text):
                self.assertEqual(self.variables(text), tuple(pairs))

    def test_that_is_no_list_of_them_is_refused(self):
        for text in ("a", "a=1,b", "=1", "a='1", "1a=2", "a b=1", "a;b=1", "[a=1]", "a=1,a=2", "a=1,A=2"):
            with self.subTest(text=text):
                self.refused(ExtraDialString=text)

    def test_with_a_variable_that_executes_something_is_refused(self):
        for name in (
            "api_on_answer", "api_hangup_hook", "execute_on_ring", "EXECUTE_ON_ANSWER_2", "exec_after_bridge_app",
            "session_in_hangup_hook", "bridge_pre_execute_bleg_app", "transfer_after_bridge", "group_confirm_key",
            "record_post_process_exec_api", "limit_execute_x", "transfer_on_fail", "loopback_app",
        ):  # fmt: skip
            with self.subTest(name=name):
                complaint = self.refused(ExtraDialString=f"a=1,{name}=x")
                self.assertIn(f"sets {name}, which executes something", complaint)

    def test_with_a_variable_by_which_the_call_is_driven_is_refused(self):
        for name in (
            "origination_uuid", "origination_nested_vars", "plivo_app", "plivo_request_uuid", "plivotx_step",
            "app_disable_expand_variables", "originate_timeout", "absolute_codec_string", "originate_retries",
            "park_timeout", "return_ring_ready", "Origination_UUID",
        ):  # fmt: skip
            with self.subTest(name=name):
                complaint = self.refused(ExtraDialString=f"{name}=x")
                self.assertIn(f"sets {name}, which plivotx itself sets", complaint)
        self.refused(ExtraDialString="ignore_early_media=false")

    def test_with_a_value_that_cannot_be_carried_is_refused(self):
        for value in ("${system(id)}", "{", "}", "a\nb", "ARRAY::x", "'shell_stream://id'"):
            with self.subTest(value=value):
                self.refused(ExtraDialString=f"a={value}")
        self.refused(ExtraDialString="sip_from_display='\"<>'")
        self.refused(ExtraDialString="a=" + "x" * 5000)


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
            "http://[v1.a:b]/": "name a host",
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
        prefixes = [each.strip() for each in given["Gateways"].split(",")]
        self.assertEqual([each.prefix for each in event.gateways], prefixes)
        self.assertEqual(event.answer_url, given["AnswerUrl"])
        self.assertEqual(event.hangup_url, given["HangupUrl"] or given["AnswerUrl"])
        self.assertEqual(event.ring_url, given["RingUrl"])
        self.assertEqual(event.account_sid, given["AccountSID"])
        for got, name in ((event.time_limit, "TimeLimit"), (event.hangup_on_ring, "HangupOnRing")):
            self.assertEqual(got, int(given[name]) if given[name] else None)
        self.assertEqual((event.caller_name, event.send_digits), (given["CallerName"], given["SendDigits"]))
        self.assertEqual(event.send_on_preanswer, given["SendOnPreanswer"].lower() == "true")
        self.assertEqual(bool(event.variables), "=" in given["ExtraDialString"])
        self.assertEqual(decode(encode(event)), event)

    def test_is_refused_with_the_complaint_of_the_check_where_that_names_no_field(self):
        def check(event):
            raise ValueError("channel is no UUID")

        error = self.assertRaises(BadForm, call_requested, FORM, UUID, check)
        self.assertEqual(str(error), "channel is no UUID")
