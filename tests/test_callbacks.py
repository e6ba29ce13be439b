"""What the application is told: exactly the parameters of the v0.1 API."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx import plugins
from plivotx.config import Config
from plivotx.events import (
    AttemptStarted,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    Gateway,
    JobFailed,
)
from plivotx.projections.call import channel_uuid, evolve

UUID = "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa"
CHANNEL = channel_uuid(UUID, "A", 1)
LOADED = plugins.load([plugins.shipped()], Config())
REQUEST = CallRequested(
    request_uuid=UUID,
    from_number="+15551234",
    to_number="+4930123",
    gateways=(Gateway(prefix="user/"),),
    answer_url="http://a.test/answer/",
    hangup_url="http://a.test/hangup/",
    ring_url="http://a.test/ring/",
)
STARTED = AttemptStarted(number=1, gateway="user/", channel=CHANNEL, switch="default", core="c")
RANG = ChannelRang(channel=CHANNEL, at=1)
ANSWERED = ChannelAnswered(channel=CHANNEL, at=2)
GONE = ChannelEnded(channel=CHANNEL, cause="NORMAL_CLEARING", at=3)
ENDED = CallEnded(cause="NORMAL_CLEARING", call_uuid=CHANNEL, at=3)
WHO = {"To": "4930123", "From": "15551234", "Direction": "outbound", "RequestUUID": UUID}


def call(*events, **request):
    """The call of which this is on record."""
    state = evolve(None, msgspec.structs.replace(REQUEST, **request))
    for each in events:
        state = evolve(state, each)
    return state


class Callbacks(SynchronousTestCase):
    def told(self, state, config=None):
        """What is owed for this call, by key; the parameters have no name twice."""
        owed = {}
        loaded = plugins.load([plugins.shipped()], config) if config else LOADED
        for each in (owed for tell in loaded.callbacks for owed in tell(state)):
            self.assertNotIn(each.key, owed)
            self.assertEqual(len(dict(each.params)), len(each.params))
            owed[each.key] = each
        return owed


class Ring(Callbacks):
    def test_is_told_at_the_first_ringing(self):
        self.assertEqual(self.told(call(STARTED)), {})
        ring = self.told(call(STARTED, RANG))["ring"]
        self.assertEqual((ring.url, ring.method), ("http://a.test/ring/", "POST"))
        self.assertEqual(dict(ring.params), {**WHO, "CallUUID": CHANNEL, "CallStatus": "ringing"})

    def test_is_told_at_early_media_and_not_at_an_answer(self):
        early = ChannelRang(channel=CHANNEL, at=1, early_media=True)
        self.assertIn("ring", self.told(call(STARTED, early)))
        self.assertNotIn("ring", self.told(call(STARTED, ANSWERED)))

    def test_is_the_same_whatever_follows(self):
        first = self.told(call(STARTED, RANG))["ring"]
        for events in ([ANSWERED], [ANSWERED, GONE, ENDED], [GONE, ENDED]):
            self.assertEqual(self.told(call(STARTED, RANG, *events))["ring"], first)

    def test_is_not_told_without_a_ring_url(self):
        self.assertEqual(self.told(call(STARTED, RANG, ring_url="")), {})


class Hangup(Callbacks):
    def test_is_told_once_the_call_has_ended(self):
        self.assertNotIn("hangup", self.told(call(STARTED, RANG, ANSWERED, GONE)))
        hangup = self.told(call(STARTED, RANG, ANSWERED, GONE, ENDED))["hangup"]
        self.assertEqual((hangup.url, hangup.method), ("http://a.test/hangup/", "POST"))
        self.assertEqual(
            dict(hangup.params),
            {
                **WHO,
                "CallUUID": CHANNEL,
                "CallStatus": "completed",
                "HangupCause": "NORMAL_CLEARING",
                "ALegUUID": CHANNEL,
                "ALegRequestUUID": UUID,
            },
        )

    def test_of_a_call_that_never_rang_has_an_empty_call_uuid_and_no_a_leg(self):
        for events in ([], [STARTED, JobFailed(channel=CHANNEL, cause="USER_BUSY")], [STARTED, GONE]):
            owed = self.told(call(*events, CallEnded(cause="USER_BUSY")))
            self.assertEqual(list(owed), ["hangup"])
            self.assertEqual(
                dict(owed["hangup"].params),
                {**WHO, "CallUUID": "", "CallStatus": "completed", "HangupCause": "USER_BUSY"},
            )

    def test_comes_after_ring(self):
        self.assertEqual(list(self.told(call(STARTED, RANG, GONE, ENDED))), ["ring", "hangup"])

    def test_is_told_at_the_answer_url_where_the_form_had_no_other(self):
        owed = self.told(call(ENDED, hangup_url="http://a.test/answer/"))
        self.assertEqual(owed["hangup"].url, "http://a.test/answer/")


class Answer(Callbacks):
    def test_asks_for_its_document_with_the_session_parameters_and_the_request_uuid(self):
        """Defect 31 of v0.1: it sent no RequestUUID with AnswerUrl."""
        self.assertEqual(
            dict(LOADED.session(call(STARTED, RANG, ANSWERED))),
            {
                **WHO,
                "CallUUID": CHANNEL,
                "CallStatus": "in-progress",
                "CallerName": "",
                "ALegUUID": CHANNEL,
                "ALegRequestUUID": UUID,
            },
        )

    def test_names_the_channel_that_was_answered(self):
        second = channel_uuid(UUID, "A", 2)
        state = call(
            STARTED,
            JobFailed(channel=CHANNEL, cause="USER_BUSY"),
            AttemptStarted(number=2, gateway="user/", channel=second, switch="default", core="c"),
            ChannelAnswered(channel=second, at=2),
        )
        self.assertEqual(dict(LOADED.session(state))["CallUUID"], second)

    def test_has_the_name_of_the_caller_as_it_was_posted(self):
        self.assertEqual(dict(LOADED.session(call(caller_name="Zoë")))["CallerName"], "Zoë")


class Every(Callbacks):
    def every(self, **request):
        """The parameters of all that is told of one call."""
        state = call(STARTED, RANG, ANSWERED, GONE, ENDED, **request)
        owed = [dict(each.params) for each in self.told(state).values()]
        self.assertEqual(len(owed), 2)
        return [*owed, dict(LOADED.session(state))]

    def test_one_has_the_account_only_if_it_was_given(self):
        for params in self.every():
            self.assertNotIn("AccountSID", params)
        for params in self.every(account_sid="AC+1"):
            self.assertEqual(params["AccountSID"], "AC+1")

    def test_one_has_both_numbers_without_any_leading_plus(self):
        for params in self.every(from_number="++1+2", to_number="+sip:a@b"):
            self.assertEqual((params["From"], params["To"]), ("1+2", "sip:a@b"))

    def test_one_is_sent_by_the_method_of_the_configuration(self):
        state = call(STARTED, RANG, ANSWERED, GONE, ENDED)
        told = self.told(state, Config(default_http_method="GET")).values()
        self.assertEqual([each.method for each in told], ["GET", "GET"])

    @given(st.text(), st.text(), st.text())
    def test_one_carries_text_as_it_is(self, caller, called, account):
        for params in self.every(from_number=caller, to_number=called, account_sid=account):
            self.assertEqual((params["From"], params["To"]), (caller.lstrip("+"), called.lstrip("+")))
            self.assertEqual(params.get("AccountSID", ""), account)

    def test_one_is_nothing_but_text(self):
        for params in self.every(account_sid="1"):
            self.assertTrue(all(isinstance(each, str) for pair in params.items() for each in pair))
