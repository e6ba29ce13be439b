"""Dial strings carry exactly what they are given, or refuse it by name.

What FreeSWITCH would make of them is asked of the emulator's parser, which was written without this module.
"""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.emulator.dialstring import parse, separate
from plivotx.esl import dialstring
from plivotx.esl.dialstring import Kept, Unsafe
from plivotx.esl.session import Session

CHANNEL = "0f5c1f2e-8a55-5d0c-9c0b-0a7b6f7d2b11"
REQUEST = "7b1d6a52-3c1b-5f0e-8f3e-1de0b7a1c0aa"
CALL: dict[str, Any] = {
    "channel": CHANNEL,
    "gateway": "sofia/gateway/self/",
    "to": "+4930123",
    "caller_id_number": "15551234",
    "caller_id_name": "Doe, John",
    "timeout": 60,
    "codecs": "PCMA,PCMU",
    "request_uuid": REQUEST,
    "ring_backstop": (35, "ORIGINATOR_CANCEL"),
    "answer_backstop": (14405, "ALLOTTED_TIMEOUT"),
}

WORDS = r"""
    \ ' " , = $ ${ $\{ { } {} }{ [ ] < > | |: : _ :_: ^^ ^^; n s r t a % & ; ( ) @ / # é € undef _undef_ + 1 100 @evil
    \' \, \s \\n it's ARRAY:: %0d%0a sip: sofia/ gateway/ app= &system(id) ${system(id)} ,api_on_answer=x
    execute_on_answer=system origination_nested_vars=true Nested_Vars unload reload mod_event_socket MOD_EVENT_socket
""".split()  # noqa: SIM905 - a list of quoted quotes and backslashes can't be read
HOSTILE = st.lists(
    st.sampled_from(WORDS)
    | st.sampled_from(list(" \t\n\r\0\1\2\v\f\x7f\x85\xa0\u2028\ud800\udcff"))
    | st.sampled_from(list(" ,'\\"))  # what the clean-ups are about, more often
    | st.characters(max_codepoint=255),
    max_size=12,
).map("".join)
TEXT = HOSTILE | st.text(max_size=30)


def refused(
    case: SynchronousTestCase, name: str, function: Callable[..., object], *args: object, **more: object
) -> None:
    """Check that this is `Unsafe`, by the name of that parameter, and says it in a sentence."""
    why = case.assertRaises(Unsafe, function, *args, **more)
    case.assertEqual(why.name, name)
    case.assertEqual(str(why), f"{why.name} {why.why}")


def channel_variables(case: SynchronousTestCase, line: str, endpoint: str, address: str) -> dict[str, str]:
    """Check that a line dials this one leg and parks it, and return the variables of its channel."""
    read = parse(line.removeprefix("originate "))
    if read.dialplan == "inline":
        case.assertRegex(read.target, r"^send_dtmf:[0-9A-D*#w]+@[0-9]+,park$")
    else:
        case.assertEqual((read.target, read.application), ("&park()", ("park", "")))
        case.assertEqual(read.dialplan, "XML")
    defaults = parse("null/x &park()")
    for name in ("context", "caller_id_name", "caller_id_number", "timeout"):
        case.assertEqual(getattr(read, name), getattr(defaults, name))
    (branch,) = read.branches
    (group,) = branch.groups
    (leg,) = group.legs
    case.assertFalse(branch.broken or group.broken)
    case.assertEqual((leg.endpoint, leg.address), (endpoint, address))
    case.assertEqual(dict(leg.options), dict(leg.variables))
    return dict(leg.variables)


class Values(SynchronousTestCase):
    def test_safe_forms(self) -> None:
        """These were tried on a FreeSWITCH 1.10.12."""
        for text, form in (
            ('abc-_.~!*()/|:;=@#%&+<>[]^`"?$', 'abc-_.~!*()/|:;=@#%&+<>[]^`"?$'),
            ("\\", 8 * "\\"),
            ("'", 7 * "\\" + "'"),
            (",", "\\\\,"),
            (" ", 4 * "\\" + "s"),
            ("\t", 4 * "\\" + "t"),
            ("a:_:b", "a:\\'\\'_:b"),
            ("origination_nested_vars=true", "origination_nested\\'\\'_vars=true"),
            ("reload MOD_Event_socket", "reload" + 4 * "\\" + "sMOD\\'\\'_Event_socket"),
            ("{a{b}}c", "{a{b}}c"),
            ("é€", "é€"),
            ("", ""),
        ):
            self.assertEqual(dialstring.value("x", text), form)

    def test_what_cannot_be_carried(self) -> None:
        for text in (
            *(
                "\0",
                "a\0",
                "{",
                "}",
                "}{",
                "{}}",
                "a{",
                "${",
                "${x}",
                "$\\{",
                "$\\\\{x}",
                "$${x}",
                "ARRAY::",
                "ARRAY::a|:b",
            ),
            *("a\nb", "a\r", "\n", "\r\n", "\ud800", "\udcff"),
        ):
            refused(self, "x", dialstring.value, "x", text)

    def test_what_would_break_a_sip_message(self) -> None:
        control = ("a\tb", "\x01", "\x7f", "\x85", "a\r\nX-Evil: 1")
        for name, texts in {
            "sip_h_X-A": control,
            "SIP_H_Diversion": control,
            **dict.fromkeys(
                ("SIP_from_display", "origination_caller_id_name", "effective_caller_id_number"),
                (*control, 'Bob" <sip:evil@x>', "<", ">"),
            ),
        }.items():
            for text in texts:
                refused(self, name, dialstring.value, name, text)
                refused(self, name, dialstring.setvar, CHANNEL, name, text)
        diversion = '"Bob"<sip:+1@x>;reason=no-answer'
        self.assertEqual(dialstring.value("sip_h_Diversion", diversion), diversion)
        self.assertEqual(dialstring.value("x", "\x01\x7f"), "\x01\x7f")

    def test_what_mod_sofia_would_decode_in_a_caller_id(self) -> None:
        for name in ("origination_caller_id_name", "Effective_Caller_ID_number"):
            for text in ("a%22b", "%0D%0aX: y", "%5c", "a\\"):
                refused(self, name, dialstring.value, name, text)
                refused(self, name, dialstring.setvar, CHANNEL, name, text)
            self.assertEqual(dialstring.value(name, "100%"), "100%")

    @given(TEXT, st.sampled_from(["sip_h_X-Foo", "plain_1"]))
    def test_any_text_is_carried_or_refused_by_name(self, text: str, name: str) -> None:
        try:
            block = dialstring.variables([("before", "1"), (name, text), ("after", "2")])
        except Unsafe as why:
            self.assertEqual(why.name, name)
            return
        expected = {"before": "1", **({name: text} if text else {}), "after": "2"}
        self.assertEqual(channel_variables(self, f"{block}null/x &park()", "null", "x"), expected)

    @given(TEXT, TEXT)
    def test_neighbours_do_not_work_together(self, one: str, two: str) -> None:
        try:
            block = dialstring.variables([("a", one), ("b", two)])
        except Unsafe:
            return
        found = channel_variables(self, f"{block}null/x &park()", "null", "x")
        self.assertEqual(found, {name: value for name, value in (("a", one), ("b", two)) if value})

    @given(TEXT)
    def test_no_value_makes_the_event_socket_reload(self, text: str) -> None:
        try:
            block = dialstring.variables([("a", f"{text} reload mod_event_socket")])
        except Unsafe:
            return
        Session("x").bgapi(f"originate {block}null/x &park()", "job")

    def test_names(self) -> None:
        for name in ("", "1a", "a b", "a=b", "a,b", "a[0]", "a}", "é", "-a", "a\n", "^^;"):
            refused(self, name, dialstring.variables, [(name, "x")])
            refused(self, name, dialstring.setvar, CHANNEL, name, "x")
        self.assertEqual(dialstring.variables([("sip_h_X-Foo.1", "a")]), "{sip_h_X-Foo.1=a}")

    def test_a_name_comes_once_in_any_case(self) -> None:
        refused(self, "A", dialstring.variables, [("a", "1"), ("b", "2"), ("A", "3")])

    def test_empty_values_set_nothing(self) -> None:
        self.assertEqual(dialstring.variables([("a", ""), ("b", "c"), ("d", "")]), "{b=c}")

    def test_too_many(self) -> None:
        pairs = [(f"v{i}", "x") for i in range(1001)]
        refused(self, "v1000", dialstring.variables, pairs)
        block = dialstring.variables(pairs[:1000])
        self.assertEqual(channel_variables(self, f"{block}null/x &park()", "null", "x"), dict(pairs[:1000]))


class SetVar(SynchronousTestCase):
    def test_safe_forms(self) -> None:
        for text, form in (
            ("it's a\tb\\", "it\\'s\\sa\\tb\\\\"),
            ("a\r\nb", "a\\r\\nb"),
            ("${x} } {", "${x}\\s}\\s{"),
            ("a\v", "a\v''"),
            ("mod_event_socket", "mod''_event_socket"),
            ("", ""),
        ):
            self.assertEqual(dialstring.setvar(CHANNEL, "x", text), f"uuid_setvar {CHANNEL} x {form}")

    def test_refused(self) -> None:
        for text in ("\0", "ARRAY::a", "\ud800"):
            refused(self, "x", dialstring.setvar, CHANNEL, "x", text)
        for uuid in ("", "a b", "a\n", "é"):
            refused(self, "uuid", dialstring.setvar, uuid, "x", "y")

    @given(TEXT)
    def test_any_text_is_carried_or_refused_by_name(self, text: str) -> None:
        try:
            command = dialstring.setvar(CHANNEL, "some_name", text)
        except Unsafe as why:
            self.assertEqual(why.name, "some_name")
            self.assertTrue("\0" in text or text.startswith("ARRAY::") or re.search("[\ud800-\udfff]", text))
            return
        Session("x").api(command)
        # FreeSWITCH cuts white space off the end of a command first
        words = separate(command.removeprefix("uuid_setvar ").rstrip(" \t\v\f\r\n"), " ", 3)
        self.assertEqual(words, [CHANNEL, "some_name", text] if text else [CHANNEL, "some_name"])


class Destinations(SynchronousTestCase):
    def test_prefixes(self) -> None:
        for prefix in (
            *(
                "sofia/gateway/self/",
                "sofia/internal/",
                "user/",
                "loopback/",
                "error/",
                "sofia/external/sip:",
                "null/",
            ),
            *("sofia/gateway/a-b_c.d/+49", "sofia/gateway/x/*67", "dingaling/gtalk/+", "x" * 256),
        ):
            self.assertEqual(dialstring.gateway(prefix), prefix)

    def test_hostile_prefixes(self) -> None:
        for prefix in (
            *(
                "",
                " ",
                "a b/",
                "a\t",
                "a\n",
                "a'",
                'a"',
                "a\\",
                "a,b/",
                "a|b/",
                "a:_:b/",
                "{x=y}a/",
                "[x=y]a/",
                "<a>",
            ),
            *(
                "${x}/",
                "$x",
                "a&b",
                "a^b",
                "a;b",
                "a%0d",
                "a?b",
                "loopback/app=",
                "é/",
                "a\x7f",
                "a\0",
                "(a)",
                "a!b",
                "x" * 257,
            ),
            *("sofia/gateway/g/1@", "SOFIA/Gateway/g/1@evil", "sofia/gateway/Mod_Event_Socket/", "\ud800"),
        ):
            refused(self, "Gateways", dialstring.gateway, prefix)

    def test_numbers(self) -> None:
        for to in ("1", "+4930123", "100", "alice", "*72#", "a.b-c_d", "+*#._-", "undef"):
            self.assertEqual(dialstring.destination(to, "sofia/gateway/self/"), to)

    def test_hosts_where_no_gateway_is_passed_by(self) -> None:
        for to in (
            *("1000@example.com", "alice@127.0.0.1:5080", "sip:alice@example.com", "SIPS:+1@a.b:5061"),
            *("sip:example.com", "sip:example.com:5060", "sip:100@127.0.0.1:5080"),
        ):
            for prefix in ("user/", "sofia/internal/", "dingaling/gtalk/"):
                self.assertEqual(dialstring.destination(to, prefix), to)
            for prefix in ("sofia/gateway/g/", "Sofia/GATEWAY/g/"):
                refused(self, "To", dialstring.destination, to, prefix)

    def test_hostile_numbers(self) -> None:
        for to in (
            *(
                "",
                "100 &system(id)",
                "100,sofia/gateway/x/1",
                "486|x/1",
                "1:_:2",
                "100@evil@x",
                "100;a=b",
                "1^2",
                "1'",
            ),
            *(
                "1\\",
                "${x}",
                "%{x}",
                "1%0d%0aX-Evil:",
                "a/b",
                "a++",
                "1+2",
                "<1>",
                "[x=y]1",
                "{x=y}1",
                "1\n",
                "1\n2",
                "\0",
                "\uff11",
            ),
            *(
                "é",
                "sip:a@b;transport=tcp",
                "sip:a@b?X=y",
                "sip:a:b@c",
                "sip:a@[::1]",
                "sip:",
                "sip:@a",
                "sip:a@-b",
            ),
            *(
                "a@b:",
                "a@b:123456",
                "sip:sip:a",
                "a b",
                "1" * 257,
                "\ud800",
                "tel:1",
                "$1",
                "&x",
                "a=b",
                "1!2",
                '1"',
                "sip:a@b ",
            ),
        ):
            refused(self, "To", dialstring.destination, to, "user/")

    def test_not_even_together(self) -> None:
        refused(self, "To", dialstring.destination, "_event_socket", "sofia/gateway/mod")
        refused(self, "To", dialstring.destination, "sip:_:5060", "null/")
        refused(self, "Destination", dialstring.destination, " ", "null/", "Destination")

    def test_codecs(self) -> None:
        for text, form in (
            ("", ""),
            (" ", ""),
            ("PCMA", "PCMA"),
            ("PCMA,PCMU", "^^:PCMA:PCMU"),
            (" opus@48000h@20i , G729 ", "^^:opus@48000h@20i:G729"),
        ):
            self.assertEqual(dialstring.codec_string(text), form)
        for text in (
            ",",
            "PCMA,",
            "PCMA,,PCMU",
            "'PCMA'",
            "PCMA PCMU",
            "a:b",
            "a=b",
            "^^:a",
            "${x}",
            "é",
            "a\n,b\0",
        ):
            refused(self, "GatewayCodecs", dialstring.codec_string, text)

    def test_callers(self) -> None:
        for text in ("", "+15551234", "anonymous", "1-2.3_4"):
            self.assertEqual(dialstring.caller_number(text), text)
        for text in (
            "1@x",
            "1;tag=2",
            "1 2",
            "sip:1",
            "1?x",
            '1"',
            "<1>",
            "é",
            "1\n",
            "%30",
            "\0",
            "1" * 257,
        ):
            refused(self, "From", dialstring.caller_number, text)
        for text in (
            "",
            "O'Neil, Bob",
            "Zoë {x} €",
            "reload mod_event_socket",
            "origination_nested_vars=true",
        ):
            self.assertEqual(dialstring.caller_name(text), text)
        for text in (
            'Bob" <sip:evil@x>',
            "a\tb",
            "a\nb",
            "<",
            "a\\",
            "${x}",
            "{",
            "ARRAY::a",
            "Sales: Bob",
            "AC/DC",
            "bob@example.com",
            "\x85",
            "\0",
            "\ud800",
            "x" * 257,
        ):
            refused(self, "CallerName", dialstring.caller_name, text)
        refused(self, "CallerName", dialstring.caller_name, "Bob%22 x")


class Lines(SynchronousTestCase):
    def test_the_whole_line(self) -> None:
        self.assertEqual(
            dialstring.originate(**CALL),
            "originate {origination_nested_vars=true"
            f",origination_uuid={CHANNEL}"
            ",origination_caller_id_number=15551234"
            ",origination_caller_id_name=Doe\\\\,\\\\\\\\sJohn"
            ",originate_timeout=60"
            ",ignore_early_media=true"
            ",app_disable_expand_variables=true"
            ",absolute_codec_string=^^:PCMA:PCMU"
            ",plivo_app=true"
            f",plivo_request_uuid={REQUEST}"
            f",api_reporting_hook='hash insert/plivotx/{CHANNEL}/${{hangup_cause}}|${{answer_uepoch}}|${{end_uepoch}}"
            "|${billsec}|${progress_uepoch}|${progress_media_uepoch}|${sip_hangup_disposition}|${sip_term_status}'"
            ",execute_on_ring_1='sched_hangup +35 ORIGINATOR_CANCEL'"
            ",execute_on_pre_answer_1='sched_hangup +35 ORIGINATOR_CANCEL'"
            ",execute_on_answer_1='sched_hangup +14405 ALLOTTED_TIMEOUT'"
            "}sofia/gateway/self/+4930123 &park()",
        )

    def expected(self, **changed: Any) -> dict[str, str]:
        call = CALL | changed
        codecs = [each.strip() for each in call["codecs"].split(",")]
        found = {
            "origination_nested_vars": "true",
            "origination_uuid": CHANNEL,
            "origination_caller_id_number": call["caller_id_number"],
            "origination_caller_id_name": call["caller_id_name"],
            "originate_timeout": str(call["timeout"]),
            "ignore_early_media": "true",
            "app_disable_expand_variables": "true",
            "absolute_codec_string": codecs[0] if len(codecs) == 1 else "^^:" + ":".join(codecs),
            "plivo_app": "true",
            "plivo_request_uuid": REQUEST,
            "api_reporting_hook": dialstring.hook(CHANNEL),
            "execute_on_answer_1": "sched_hangup +14405 ALLOTTED_TIMEOUT",
        }
        if call["ring_backstop"]:
            limit = "sched_hangup +35 ORIGINATOR_CANCEL"
            found |= {"execute_on_ring_1": limit, "execute_on_pre_answer_1": limit}
        return {name: value for name, value in found.items() if value}

    def test_what_freeswitch_reads(self) -> None:
        for changed in (
            {},
            {"ring_backstop": None},
            {"codecs": "", "caller_id_name": "", "caller_id_number": ""},
            {"codecs": "_,a", "caller_id_name": "it's {} 'x', y=z \\"[:-1].rstrip()},
            {"gateway": "user/", "to": "1000@example.com"},
        ):
            call = CALL | changed
            endpoint, _, address = (call["gateway"] + call["to"]).partition("/")
            found = channel_variables(self, dialstring.originate(**call), endpoint, address)
            self.assertEqual(found, self.expected(**changed))

    def read(self, **changed: Any) -> dict[str, str]:
        """The variables that FreeSWITCH would set for this call, beyond those of a plain one."""
        call = CALL | changed
        found = channel_variables(
            self, dialstring.originate(**call), *(call["gateway"] + call["to"]).split("/", 1)
        )
        plain = self.expected()
        return {name: text for name, text in found.items() if plain.get(name) != text}

    def test_digits_are_sent_by_the_channel_itself_before_it_parks(self) -> None:
        line = dialstring.originate(**CALL, send_digits="1wW2")
        self.assertTrue(line.endswith("+4930123 'send_dtmf:1ww2@2000,park' inline"), line)
        self.assertEqual(self.read(send_digits="1"), {})

    def test_early_media_with_digits_has_a_limit_that_the_answer_takes_away(self) -> None:
        line = dialstring.originate(**CALL, send_digits="*#AD@100", early_digits=True, early_margin=7)
        self.assertTrue(line.endswith("+4930123 'send_dtmf:*#AD@100,park' inline"), line)
        self.assertEqual(
            self.read(send_digits="1", early_digits=True, early_margin=7),
            {
                "ignore_early_media": "false",
                "api_on_pre_answer": f"sched_api +67 plivotx-{CHANNEL}-ring uuid_kill {CHANNEL} NO_ANSWER",
                "api_on_answer": f"sched_del plivotx-{CHANNEL}-ring",
            },
        )

    def test_digits_that_are_none(self) -> None:
        for wrong in ("", "1 2", "1@", "1'", "x", "1@1"):
            with self.subTest(digits=wrong):
                error = self.assertRaises(dialstring.Unsafe, dialstring.digits, wrong)
                self.assertEqual(error.name, "SendDigits")

    def test_the_time_to_ring(self) -> None:
        self.assertEqual(self.read(progress_timeout=7), {"leg_progress_timeout": "7"})

    def test_variables_of_the_client_are_set_as_they_are(self) -> None:
        given = (("sip_h_X-A", "it's, {this}"), ("b", " 'x' \\ "), ("hangup_after_bridge", "true"))
        self.assertEqual(self.read(variables=given), dict(given))

    def test_a_client_may_name_the_caller_by_variables_too(self) -> None:
        given = (("Origination_Caller_ID_Number", "7"), ("origination_caller_id_name", "Zoë"))
        found = self.read(variables=given)
        self.assertEqual(found, {"Origination_Caller_ID_Number": "7", "origination_caller_id_name": "Zoë"})

    def test_variables_that_execute_something_need_leave(self) -> None:
        given = (("execute_on_answer_3", "playback x"),)
        error = self.assertRaises(dialstring.Unsafe, self.read, variables=given)
        self.assertEqual(error.name, "ExtraDialString")
        self.assertEqual(self.read(variables=given, allowed=("execute_on_answer_3",)), dict(given))
        for name in ("origination_uuid", "plivo_app", "execute_on_answer_1"):
            with self.assertRaises(dialstring.Unsafe):
                self.read(variables=((name, "x"),), allowed=(name,))

    def test_variables_that_bring_the_switch_down_are_refused_whoever_allows_them(self) -> None:
        for name in ("hangup_on_single_reject", "Hangup_On_Single_Reject", "originate_delay_start"):
            with self.assertRaises(dialstring.Unsafe):
                self.read(variables=((name, "true"),), allowed=(name,))

    def test_variables_that_lead_the_call_past_the_gateway_need_leave(self) -> None:
        for name in (
            "sip_route_uri",
            "sip_invite_req_uri",
            "SIP_Invite_Route_URI",
            "sip_invite_params",
            "sip_invite_tel_params",
            "sip_h_Route",
            "sip_bye_h_Route",
            "sip_h_Via",
            "sip_h_v",
            "sip_h_Contact",
            "sip_h_Record-Route",
        ):
            given = ((name, "sip:evil.test"),)
            error = self.assertRaises(dialstring.Unsafe, self.read, variables=given)
            self.assertEqual((error.name, "leads the call elsewhere" in error.why), ("ExtraDialString", True))
            self.assertEqual(self.read(variables=given, allowed=(name,)), dict(given))

    @given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=4))
    def test_any_variables_are_carried_or_refused_by_the_parameters_name(
        self, pairs: list[tuple[str, str]]
    ) -> None:
        try:
            found = self.read(variables=pairs)
        except dialstring.Unsafe as error:
            self.assertEqual(error.name, "ExtraDialString")
            return
        self.assertEqual(found, {name: text for name, text in pairs if text})

    NAMES: dict[str, str] = {  # noqa: RUF012 - a table
        "channel": "channel",
        "gateway": "Gateways",
        "to": "To",
        "caller_id_number": "From",
        "caller_id_name": "CallerName",
        "codecs": "GatewayCodecs",
        "request_uuid": "request_uuid",
    }

    def test_each_parameter_is_refused_by_its_name(self) -> None:
        for parameter, name in self.NAMES.items():
            for text in ("a b\n", "}", "a\0b", "${x}", "\ud800"):
                refused(self, name, dialstring.originate, **CALL | {parameter: text})
        refused(self, "cause", dialstring.originate, **CALL | {"answer_backstop": (1, "X Y")})
        refused(self, "cause", dialstring.originate, **CALL | {"ring_backstop": (1, "X'")})

    def check(self, changed: dict[str, str]) -> None:
        call = CALL | changed
        try:
            line = dialstring.originate(**call)
        except Unsafe as why:
            self.assertIn(why.name, {self.NAMES[parameter] for parameter in changed})
            return
        endpoint, _, address = (call["gateway"] + call["to"]).partition("/")
        if "/" not in call["gateway"]:
            return  # no endpoint: FreeSWITCH refuses that itself
        found = channel_variables(self, line, endpoint, address)
        self.assertEqual(
            found, self.expected(**{k: v for k, v in changed.items() if k not in {"gateway", "to"}})
        )
        Session("x").bgapi(line, "job")

    @given(st.sampled_from(["gateway", "to", "caller_id_number", "caller_id_name", "codecs"]), TEXT)
    def test_one_hostile_parameter(self, parameter: str, text: str) -> None:
        if parameter == "codecs" and not text.strip():
            return
        self.check({parameter: text})

    @given(HOSTILE.map(lambda text: re.sub(r'[\x00-\x1f\x7f-\x9f"<>/:@\\]|\$+\{*', "", text)))
    def test_hostile_names_of_callers(self, text: str) -> None:
        self.check({"caller_id_name": text})

    @given(
        st.text("ab+*#._:/@-", min_size=1, max_size=12),
        st.text("ab1+*#._:@-", min_size=1, max_size=12).map(lambda text: text.replace("b", "sip:")),
        st.lists(st.text("ab_@.-", min_size=1, max_size=4), min_size=1, max_size=4).map(",".join),
    )
    def test_letters_that_are_allowed_do_no_harm_together(self, gateway: str, to: str, codecs: str) -> None:
        self.check({"gateway": "sofia/" + gateway, "to": to, "codecs": codecs})


class WhatIsKept(SynchronousTestCase):
    def test_commands(self) -> None:
        self.assertEqual(dialstring.kept(CHANNEL), f"hash select/plivotx/{CHANNEL}")
        self.assertEqual(dialstring.forget(CHANNEL), f"hash delete/plivotx/{CHANNEL}")
        for function in (dialstring.hook, dialstring.kept, dialstring.forget):
            for uuid in ("", "a/b", "a b", "a\n", "${x}"):
                refused(self, "uuid", function, uuid)

    def test_lines(self) -> None:
        self.assertEqual(
            dialstring.parse_kept("USER_BUSY|0|1795438033381409|0|0|0|recv_refuse|486"),
            Kept("USER_BUSY", ended_at=1795438033381409, sip_side="recv_refuse", sip_code="486"),
        )
        self.assertEqual(
            dialstring.parse_kept("NORMAL_CLEARING|3|9|12|2|1|send_bye|\n"),
            Kept(
                "NORMAL_CLEARING", answered_at=3, ended_at=9, rang_at=2, early_media_at=1, sip_side="send_bye"
            ),
        )
        self.assertEqual(dialstring.parse_kept("NO_ANSWER|||||||"), Kept("NO_ANSWER"))

    def test_what_is_none(self) -> None:
        for line in (
            *(
                "",
                "-ERR no reply\n",
                "USER_BUSY",
                "USER_BUSY|0|1|0|0|0|recv_refuse",
                "USER_BUSY|0|1|0|0|0|a|486|x",
                "|" * 7,
            ),
            *(
                "${hangup_cause}|0|1|0|0|0||",
                "X|a|1|0|0|0||",
                "X|-1|1|0|0|0||",
                f"X|{'9' * 5000}|1|0|0|0||",
                "X|\u0661|1|0|0|0||",
            ),
            "-ERR CMD|0|1|0|0|0||",
        ):
            self.assertIsNone(dialstring.parse_kept(line), line)

    @given(st.text(max_size=60) | st.text("A0|_\n", max_size=30))
    def test_any_text(self, line: str) -> None:
        self.assertIsInstance(dialstring.parse_kept(line), Kept | None)


class ApiLines(SynchronousTestCase):
    def test_have_their_words_as_they_are(self):
        self.assertEqual(
            dialstring.api("uuid_record", ("u-1", "start", "/var/x/a_1.mp3", "60")),
            "uuid_record u-1 start /var/x/a_1.mp3 60",
        )
        self.assertEqual(dialstring.api("strftime", ("%Y%m%d-%H%M%S",)), "strftime %Y%m%d-%H%M%S")
        self.assertEqual(dialstring.api("status", ()), "status")

    def test_refuse_what_is_no_word(self):
        for word in (
            "",
            "a b",
            "a\n\nexit",
            "a'b",
            'a"',
            "a\\sb",
            "${x}",
            "a&",
            "a|b",
            "{a=b}x",
            "a;;é",
            "\0",
        ):
            why = self.assertRaises(dialstring.Unsafe, dialstring.api, "uuid_x", ("a", word))
            self.assertIn(f"uuid_x is given the word {word!a}, which is empty or", str(why))
        for command in ("", "a b", "Status", "status\n"):
            why = self.assertRaises(dialstring.Unsafe, dialstring.api, command, ())
            self.assertEqual(str(why), f"command {command!a} is no name of an API command")
        self.assertRaises(dialstring.Unsafe, dialstring.api, "reload", ("mod_event_socket",))

    @given(st.text(), st.lists(st.text()))
    def test_hold_as_many_words_as_were_given_or_are_refused(self, command, words):
        try:
            line = dialstring.api(command, words)
        except dialstring.Unsafe:
            return
        self.assertEqual(line.split(), [command, *words])
