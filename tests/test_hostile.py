"""Hostile text through the whole path: what the switch was asked to dial.

Every value either is refused with the name of its parameter, or the one channel dialled carries exactly
that text; never another variable, destination, leg or command.
"""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from plivotx.rest.forms import PARAMETERS
from plivotx.testing import SELF, EmulatedWorld

WORDS = (
    "\0", "\r\n", "\n\napi system touch x\n\n", "'", '"', "\\", "{", "}", "{a=b}", "[", "]", "<", ">", ",", "|",
    ":_:", "${system(id)}", "$\\{x}", "&hangup()", " ", "=", "^^:", "origination_nested_vars=true", "api_on_answer=",
    "reload mod_event_socket", "ARRAY::a|:b", "@evil.example", "sip:x@evil.example", "%0d%0a", "%22", "100", "+100",
    "sofia/gateway/self/", "loopback/app=", "http://app.test/", "http://[::1", "é", "مرحبا", "电话", "📞", "\u202e",
)  # fmt: skip
ALWAYS = {
    "origination_nested_vars",
    "origination_uuid",
    "origination_caller_id_number",
    "origination_caller_id_name",
    "originate_timeout",
    "ignore_early_media",
    "app_disable_expand_variables",
    "absolute_codec_string",
    "plivo_app",
    "plivo_request_uuid",
    "api_reporting_hook",
    "execute_on_ring_1",
    "execute_on_pre_answer_1",
    "execute_on_answer_1",
}
GOOD = {
    "From": "1000",
    "To": "100",
    "Gateways": SELF,
    "AccountSID": "",
    "AnswerUrl": "http://application.test/answer/",
    "HangupUrl": "",
    "RingUrl": "",
    "TimeLimit": "5",
    "HangupOnRing": "",
    "CallerName": "",
    "GatewayCodecs": "",
    "GatewayTimeouts": "3",
    "GatewayRetries": "1",
    "ExtraDialString": "mine=1",
    "SendDigits": "1",
    "SendOnPreanswer": "",
}
_hostile = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), min_size=1, max_size=5).map("".join)


class Hostile(SynchronousTestCase):
    def setUp(self):
        self.world = EmulatedWorld()
        self.world.start()
        self.addCleanup(self.world.end)

    @given(st.sampled_from(PARAMETERS), _hostile, st.booleans())
    def test_a_value_is_refused_by_name_or_dialled_exactly_as_it_stands(self, name, text, append):
        text = GOOD[name] + text if append else text
        try:
            text.encode()
        except UnicodeEncodeError:
            return  # half a character cannot be posted
        world = self.world
        before = len(world.switch.dialled)
        sessions = len(world.switch.sessions)
        posted = self.now(world.post(**{**GOOD, name: text}))
        if not posted["Success"]:
            self.assertIn(name, posted["Message"])
            self.now(world.passes(0.2))
            self.assertEqual(len(world.switch.dialled), before)
            return
        request = world.events(posted["RequestUUID"])[0]
        self.now(
            world.until(
                lambda: any(
                    type(each).__name__ in ("ChannelAnswered", "CallEnded")
                    for each in world.events(posted["RequestUUID"])
                )
            )
        )
        wanted = [each.prefix + request.to_number for each in request.gateways for _ in range(each.tries)]
        for number, dialled in enumerate(world.switch.dialled[before:]):
            values = dialled.variables
            self.assertLessEqual(set(values), ALWAYS | {each for each, _ in request.variables})
            self.assertEqual(
                [values.get(each, "") for each, _ in request.variables],
                [each for _, each in request.variables],
            )
            self.assertEqual(values["plivo_request_uuid"], posted["RequestUUID"])
            if not request.variables or request.variables == (("mine", "1"),):
                self.assertEqual(values["origination_caller_id_number"], {**GOOD, name: text}["From"])
                self.assertEqual(values.get("origination_caller_id_name", ""), request.caller_name)
            self.assertEqual(dialled.prefix + dialled.destination, wanted[number])
        ran = {app for _, app, _, _ in world.switch.executed}
        self.assertLessEqual(ran, {"park", "send_dtmf", "sched_hangup", "set", "playback"})
        self.assertEqual(len(world.switch.sessions), sessions, "the switch threw us out")
        stored = {
            "From": request.from_number,
            "To": request.to_number,
            "Gateways": ",".join(each.prefix for each in request.gateways),
            "AccountSID": request.account_sid,
            "AnswerUrl": request.answer_url,
            "CallerName": request.caller_name,
            "SendDigits": request.send_digits,
        }
        if name in stored:
            # an entry of the list stands without outer blanks
            self.assertEqual(stored[name], text.strip() if name == "Gateways" else text)
        self.now(world.closed(posted["RequestUUID"], 600))

    def now(self, coroutine):
        """Run a coroutine that waits for nothing but the world's own clock."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))
