"""The record of a call: what its events come to, for people and programs."""

import datetime as dt
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.events import (
    BY_NAME,
    AttemptFailed,
    AttemptSkipped,
    AttemptStarted,
    CallbackDelivered,
    CallbackFailed,
    CallbackGivenUp,
    CallbackOwed,
    CallbackRenewed,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    DocumentFailed,
    DocumentFetched,
    Event,
    Gateway,
    HangupRequested,
    JobFailed,
    LimitReached,
    Redirected,
    ScriptEnded,
    StepEnded,
    StepStarted,
    Unknown,
    VerbAbandoned,
    VerbEnded,
    VerbRound,
)
from plivotx.projections.record import hung_up_by, iso, news, record, sentence
from tests.strategies import call_streams, streams

SECOND = 1_000_000
MADE = 1_800_000_000 * SECOND
"""When the first channel was made, on the switch's clock."""
REQUEST = "3f0c3e6e-0000-4000-8000-000000000001"


class Entry(msgspec.Struct, frozen=True):
    version: int
    at: float
    event: Event


def of(*events: Event, every: float = 1.0) -> dict:
    """The record of these events, each so many seconds after the one before."""
    entries = [Entry(n, 1_800_000_000.25 + (n - 1) * every, each) for n, each in enumerate(events, 1)]
    return record(REQUEST, entries)


def request(**more: object) -> CallRequested:
    wanted = {
        "request_uuid": REQUEST,
        "from_number": "+1000",
        "to_number": "101",
        "gateways": (Gateway(prefix="one/"), Gateway(prefix="two/", tries=2)),
        "answer_url": "http://app/answer/?key=secret",
        "hangup_url": "http://app/hangup/",
    }
    return CallRequested(**{**wanted, **more})


def started(number: int = 1) -> AttemptStarted:
    gateway = ("one/", "two/")[number > 1]
    return AttemptStarted(number=number, gateway=gateway, channel=f"c{number}", switch="default", core="k")


def ended(cause: str = "NORMAL_CLEARING", number: int = 1, at: int = 9, **more: object) -> ChannelEnded:
    wanted = {"channel": f"c{number}", "cause": cause, "at": MADE + at * SECOND}
    return ChannelEnded(**{**wanted, **more})


RANG = ChannelRang(channel="c2", at=MADE + SECOND * 3 // 2, created_at=MADE)
ANSWERED = ChannelAnswered(channel="c2", at=MADE + 4 * SECOND, created_at=MADE)
OWED = CallbackOwed(
    key="hangup", url="http://app/hangup/?key=secret", method="POST", params=(("To", "101"), ("From", "1"))
)


class Properties(SynchronousTestCase):
    @given(streams | call_streams, st.floats(-1e10, 1e13, allow_nan=False), st.floats(0, 1e9))
    def test_any_events_make_a_record_and_it_is_json(self, events, began, every):
        entries = [Entry(n, began + n * every, each) for n, each in enumerate(events, 1)]
        made = record("any", entries)
        self.assertEqual(json.loads(json.dumps(made)), made)
        self.assertEqual([each["Version"] for each in made["Timeline"]], [*range(1, len(events) + 1)])
        for each, event in zip(made["Timeline"], events, strict=True):
            name = event.type if isinstance(event, Unknown) else type(event).__name__
            self.assertEqual(each["Event"], name)
            self.assertTrue(each["Text"].endswith("."))

    @given(streams | call_streams, st.integers(0, 40))
    def test_what_is_new_is_the_end_of_the_timeline_and_the_state_of_all(self, events, after):
        entries = [Entry(n, 1e9, each) for n, each in enumerate(events, 1)]
        made = record("any", entries)
        self.assertEqual(news(entries, after), {"State": made["State"], "Timeline": made["Timeline"][after:]})

    @given(st.integers(0, 253_402_300_798_999))
    def test_a_moment_is_what_the_calendar_says(self, milliseconds):
        moment = dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC)
        wanted = f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z".rjust(24, "0")
        self.assertEqual(iso((milliseconds + 0.5) / 1000), wanted)


class WholeCalls(SynchronousTestCase):
    def test_one_that_failed_over_was_answered_and_reached_its_limit(self):
        made = of(
            request(time_limit=5, hangup_on_ring=30, account_sid="customer"),
            started(1),
            JobFailed(channel="c1", cause="USER_BUSY"),
            ended("USER_BUSY", 1, sip_code="486", sip_side="recv_refuse", q850=17, created_at=MADE - SECOND),
            AttemptFailed(channel="c1", cause="USER_BUSY", why="FreeSWITCH reported USER_BUSY for the job"),
            started(2),
            RANG,
            ANSWERED,
            LimitReached(limit="TimeLimit", cause="ALLOTTED_TIMEOUT"),
            ended("ALLOTTED_TIMEOUT", 2, sip_code="200", sip_side="send_bye", created_at=MADE),
            CallEnded(cause="ALLOTTED_TIMEOUT", call_uuid="c2", at=MADE + 9 * SECOND),
            OWED,
            CallbackDelivered(key="hangup", attempt=1, status=200),
            CallClosed(),
        )
        timeline = made.pop("Timeline")
        self.assertEqual(
            made,
            {
                "RequestUUID": REQUEST,
                "State": "closed",
                "Direction": "outbound",
                "From": "+1000",
                "To": "101",
                "AccountSID": "customer",
                "CallUUID": "c2",
                "Created": "2027-01-15T08:00:00.250Z",
                "RingTime": "2027-01-15T08:00:01.500Z",
                "AnswerTime": "2027-01-15T08:00:04.000Z",
                "EndTime": "2027-01-15T08:00:09.000Z",
                "Duration": 9.0,
                "BillDuration": 5.0,
                "HangupCause": "ALLOTTED_TIMEOUT",
                "HangupOnRing": 30,
                "TimeLimit": 5,
                "Attempts": [
                    {
                        "Number": 1,
                        "Gateway": "one/",
                        "Switch": "default",
                        "CallUUID": "c1",
                        "Started": "2027-01-15T08:00:01.250Z",
                        "RingDelay": None,
                        "AnswerDelay": None,
                        "EarlyMedia": False,
                        "Ended": "2027-01-15T08:00:03.250Z",
                        "SipCode": "486",
                        "Cause": "USER_BUSY",
                        "Q850": 17,
                        "HungUpBy": "far end",
                        "Disposition": "recv_refuse",
                        "Why": "FreeSWITCH reported USER_BUSY for the job",
                    },
                    {
                        "Number": 2,
                        "Gateway": "two/",
                        "Switch": "default",
                        "CallUUID": "c2",
                        "Started": "2027-01-15T08:00:05.250Z",
                        "RingDelay": 1.5,
                        "AnswerDelay": 4.0,
                        "EarlyMedia": False,
                        "Ended": "2027-01-15T08:00:09.250Z",
                        "SipCode": "200",
                        "Cause": "ALLOTTED_TIMEOUT",
                        "Q850": 16,
                        "HungUpBy": "plivotx",
                        "Disposition": "send_bye",
                        "Why": None,
                    },
                ],
                "Callbacks": [
                    {
                        "Key": "hangup",
                        "Url": "http://app/hangup/?key=secret",
                        "Method": "POST",
                        "Parameters": {"To": "101", "From": "1"},
                        "State": "delivered",
                        "Owed": "2027-01-15T08:00:11.250Z",
                        "Tries": [{"Try": 1, "Time": "2027-01-15T08:00:12.250Z", "Status": 200, "Why": None}],
                    }
                ],
                "Script": {
                    "Documents": [],
                    "Verbs": [],
                    "Errors": [],
                    "Ended": None,
                    "Cause": None,
                    "Why": None,
                },
            },
        )
        self.assertEqual(
            [each["Text"] for each in timeline],
            [
                (
                    "A call from +1000 to 101 was accepted, by way of one/, two/ (2 tries);"
                    " to be hung up 30 s after it rings or 5 s after the answer."
                ),
                "Attempt 1 is dialled through one/ on switch default.",
                "The switch could not make the channel of attempt 1: USER_BUSY.",
                "The channel of attempt 1 has ended: USER_BUSY, SIP 486, refused by the far end.",
                "Attempt 1 is over without ringing or answer (USER_BUSY): FreeSWITCH reported USER_BUSY for the job.",
                "Attempt 2 is dialled through two/ on switch default.",
                "The far end rings (attempt 2), 1.5 s after its channel was made.",
                "The far end answers (attempt 2), 4.0 s after its channel was made.",
                "TimeLimit is reached; the call is hung up with ALLOTTED_TIMEOUT.",
                "The channel of attempt 2 has ended: ALLOTTED_TIMEOUT, SIP 200, hung up from this side.",
                "The call has ended: ALLOTTED_TIMEOUT.",
                "The application is to be told: hangup, at http://app/hangup/?....",
                "The application was told: hangup, at try 1 (status 200).",
                "The application knows all; the call is closed.",
            ],
        )
        self.assertEqual(timeline[0]["Time"], "2027-01-15T08:00:00.250Z")

    def test_one_that_was_only_accepted_has_the_rest_unknown(self):
        made = of(request())
        self.assertEqual(made["State"], "accepted")
        for name in (
            "CallUUID",
            "RingTime",
            "AnswerTime",
            "EndTime",
            "Duration",
            "BillDuration",
            "HangupCause",
        ):
            self.assertIsNone(made[name], name)
        self.assertEqual((made["Attempts"], made["Callbacks"]), ([], []))

    def test_one_that_nobody_answered_has_no_bill(self):
        made = of(
            request(),
            started(2),
            RANG,
            ended("NO_ANSWER", 2),
            CallEnded(cause="NO_ANSWER", at=MADE + 9 * SECOND),
        )
        self.assertEqual((made["Duration"], made["BillDuration"]), (9.0, None))
        self.assertEqual(made["State"], "completed")

    def test_delays_are_unknown_where_the_switch_did_not_say_when_it_made_the_channel(self):
        rang = msgspec.structs.replace(RANG, created_at=0)
        made = of(request(), started(2), rang)
        self.assertIsNone(made["Attempts"][0]["RingDelay"])
        made = of(request(), started(2), rang, ended("NO_ANSWER", 2, created_at=MADE))
        self.assertEqual(made["Attempts"][0]["RingDelay"], 1.5)

    def test_what_only_the_end_told_counts(self):
        end = ended("NO_ANSWER", 1, rang_at=MADE + 2 * SECOND, answered_at=MADE + 3 * SECOND, created_at=MADE)
        (attempt,) = of(request(), started(1), end)["Attempts"]
        self.assertEqual((attempt["RingDelay"], attempt["AnswerDelay"]), (2.0, 3.0))

    def test_early_media_is_shown(self):
        (attempt,) = of(request(), started(2), msgspec.structs.replace(RANG, early_media=True))["Attempts"]
        self.assertTrue(attempt["EarlyMedia"])

    def test_a_gateway_that_was_passed_over_is_shown_with_its_reason(self):
        made = of(request(), AttemptSkipped(number=1, gateway="one/", why="it failed 5 times"), started(2))
        skipped, other = made["Attempts"]
        self.assertEqual(
            [skipped[each] for each in ("Number", "Gateway", "CallUUID", "Started", "HungUpBy", "Why")],
            [1, "one/", None, None, None, "it failed 5 times"],
        )
        self.assertEqual(other["CallUUID"], "c2")

    def test_without_its_request_there_is_still_what_is_known(self):
        made = of(started(1), ended())
        self.assertEqual((made["From"], made["Direction"], len(made["Attempts"])), (None, None, 1))
        self.assertEqual(record("none", [])["Created"], None)


class HangingUp(SynchronousTestCase):
    def test_is_told_by_whom(self):
        for side, ordered, found, cause, who in (
            ("recv_bye", "", "event", "NORMAL_CLEARING", "far end"),
            ("recv_bye", "ALLOTTED_TIMEOUT", "event", "NORMAL_CLEARING", "far end"),
            ("recv_refuse", "", "kept", "USER_BUSY", "far end"),
            ("send_bye", "", "event", "NORMAL_CLEARING", "switch"),
            ("send_cancel", "", "event", "NO_ANSWER", "switch"),
            ("send_bye", "ALLOTTED_TIMEOUT", "event", "ALLOTTED_TIMEOUT", "plivotx"),
            ("send_cancel", "ORIGINATOR_CANCEL", "event", "ORIGINATOR_CANCEL", "plivotx"),
            ("", "ALLOTTED_TIMEOUT", "event", "ALLOTTED_TIMEOUT", "plivotx"),
            ("", "ALLOTTED_TIMEOUT", "event", "USER_BUSY", "unknown"),
            ("", "", "event", "USER_BUSY", "unknown"),
            ("", "", "missing", "OUTCOME_UNKNOWN", "unknown"),
            ("", "", "restart", "CRASH", "switch"),
        ):
            with self.subTest(side=side, ordered=ordered, found=found, cause=cause):
                end = ended(cause, sip_side=side, found=found)
                self.assertEqual(hung_up_by(end, ordered), who)
        self.assertEqual(hung_up_by(None, ""), "unknown")

    def test_is_ours_only_if_it_was_decided_before_the_end_and_for_that_attempt(self):
        limit = LimitReached(limit="TimeLimit", cause="ALLOTTED_TIMEOUT")
        end = ended("ALLOTTED_TIMEOUT", 1, sip_side="send_bye")

        def who(*events: Event) -> list[str]:
            return [each["HungUpBy"] for each in of(request(), *events)["Attempts"]]

        self.assertEqual(who(started(1), limit, end), ["plivotx"])
        self.assertEqual(who(started(1), end, limit), ["switch"])
        self.assertEqual(who(limit, started(1), end), ["switch"])
        self.assertEqual(
            who(started(1), ScriptEnded(cause="NORMAL_CLEARING", why="Hangup"), end), ["plivotx"]
        )
        asked = HangupRequested(cause="NORMAL_CLEARING")
        self.assertEqual(
            who(started(1), asked, ended("NORMAL_CLEARING", 1, sip_side="send_cancel")), ["plivotx"]
        )
        self.assertEqual(sentence(asked), "A client asks for the end of the call (NORMAL_CLEARING).")
        self.assertEqual(who(started(1)), [None])
        self.assertEqual(who(started(1), JobFailed(channel="c1", cause="INVALID_GATEWAY")), ["unknown"])


class Callbacks(SynchronousTestCase):
    def of(self, *events: Event) -> dict:
        (callback,) = of(request(), OWED, *events)["Callbacks"]
        return callback

    def test_go_from_waiting_to_given_up_and_on_when_they_are_renewed(self):
        failed = [CallbackFailed(key="hangup", attempt=n, why="status 500") for n in (1, 2)]
        self.assertEqual(self.of()["State"], "waiting")
        self.assertEqual(self.of(*failed)["State"], "waiting")
        given_up = [*failed, CallbackGivenUp(key="hangup", why="status 500"), CallClosed(undelivered=1)]
        self.assertEqual(self.of(*given_up)["State"], "given-up")
        self.assertEqual(of(request(), OWED, *given_up)["State"], "closed")
        renewed = [*given_up, CallbackRenewed(key="hangup", renewal=1)]
        self.assertEqual(self.of(*renewed)["State"], "waiting")
        self.assertEqual(of(request(), OWED, *renewed)["State"], "completed")
        callback = self.of(*renewed, CallbackDelivered(key="hangup", attempt=1, status=204))
        self.assertEqual(callback["State"], "delivered")
        self.assertEqual(
            [(each["Try"], each["Status"], each["Why"]) for each in callback["Tries"]],
            [(1, None, "status 500"), (2, None, "status 500"), (1, 204, None)],
        )

    def test_of_another_key_are_kept_apart(self):
        ring = msgspec.structs.replace(OWED, key="ring")
        made = of(request(), ring, OWED, CallbackGivenUp(key="ring", why="x"))
        self.assertEqual(
            [(each["Key"], each["State"]) for each in made["Callbacks"]],
            [("ring", "given-up"), ("hangup", "waiting")],
        )


class Scripts(SynchronousTestCase):
    def test_show_their_documents_verbs_and_errors_with_the_line(self):
        script = of(
            DocumentFailed(number=1, attempt=1, why="POST http://app/: status 500"),
            DocumentFetched(number=1, body="<Response/>"),
            StepStarted(key="1/0/1", digest="d"),
            StepEnded(key="1/0/1", result=(("digits", "1234"),)),
            VerbEnded(document=1, verb=0, name="GetDigits"),
            StepStarted(key="1/1/1", digest="d"),
            StepEnded(key="1/1/1", failed="no such file"),
            VerbAbandoned(document=1, verb=1, why="another step"),
            ScriptEnded(
                cause="PROTOCOL_ERROR", why="document 2: line 3, column 1: unknown verb Dance", fault=True
            ),
        )["Script"]
        at = "2027-01-15T08:00:0{}.250Z".format
        self.assertEqual(
            script,
            {
                "Documents": [{"Number": 1, "Fetched": at(1), "Characters": 11}],
                "Verbs": [
                    {"Document": 1, "Verb": 1, "Name": "GetDigits", "Started": at(2), "Ended": at(4)},
                    {"Document": 1, "Verb": 2, "Name": None, "Started": at(5), "Ended": at(7)},
                ],
                "Errors": [
                    {"Time": at(0), "Document": 1, "Line": None, "Why": "POST http://app/: status 500"},
                    {"Time": at(6), "Document": 1, "Line": None, "Why": "step 1/1/1: no such file"},
                    {"Time": at(7), "Document": 1, "Line": None, "Why": "another step"},
                    {
                        "Time": at(8),
                        "Document": 2,
                        "Line": 3,
                        "Why": "document 2: line 3, column 1: unknown verb Dance",
                    },
                ],
                "Ended": at(8),
                "Cause": "PROTOCOL_ERROR",
                "Why": "document 2: line 3, column 1: unknown verb Dance",
            },
        )

    def test_show_when_a_verb_was_left(self):
        step = StepStarted(key="1/0/1", digest="d")
        left = Redirected(document=1, url="http://app/next/", method="POST", params=())
        end = ScriptEnded(cause="NORMAL_CLEARING", why="the channel is gone")

        def verbs(*events):
            return [(each["Name"], each["Ended"]) for each in of(*events)["Script"]["Verbs"]]

        self.assertEqual(verbs(step), [(None, None)])
        self.assertEqual(verbs(step, left), [(None, "2027-01-15T08:00:01.250Z")])
        second = StepStarted(key="2/0/1", digest="d")
        self.assertEqual(
            verbs(step, left, second, end),
            [(None, "2027-01-15T08:00:01.250Z"), (None, "2027-01-15T08:00:03.250Z")],
        )

    def test_name_a_step_by_its_verb_and_document_counted_from_1(self):
        made = of(
            StepStarted(key="2/0/3", digest="d"), StepEnded(key="2/0/3"), StepStarted(key="?", digest="d")
        )
        self.assertEqual(
            [each["Text"] for each in made["Timeline"]],
            [
                "Step 3 of verb 1 of document 2 begins (execute).",
                "Step 3 of verb 1 of document 2 has ended.",
                "Step ? begins (execute).",
            ],
        )

    def test_say_when_an_attempt_was_never_dialled(self):
        made = of(started(1), JobFailed(channel="c1", cause="NETWORK_OUT_OF_ORDER", dialled=False))
        self.assertEqual(made["Timeline"][-1]["Text"], "Attempt 1 was not dialled: NETWORK_OUT_OF_ORDER.")

    def test_have_the_cause_of_a_job_that_made_no_channel(self):
        failed = JobFailed(channel="c1", cause="INVALID_GATEWAY")
        (attempt,) = of(started(1), failed, msgspec.structs.replace(failed, cause="NONE"))["Attempts"]
        self.assertEqual((attempt["Cause"], attempt["Q850"]), ("INVALID_GATEWAY", 16))

    def test_do_not_show_what_was_dialled_by_the_called(self):
        made = of(request(), StepEnded(key="1/0/1", result=(("digits", "987654321"),)))
        self.assertNotIn("987654321", json.dumps(made))


class Sentences(SynchronousTestCase):
    def test_tell_every_event_in_more_than_its_name(self):
        for name, kind in BY_NAME.items():
            blank = {"int": 1, "str": "x", "Pairs": ()}
            fields = {
                each.name: blank.get(getattr(each.type, "__name__", ""), ())
                for each in msgspec.structs.fields(kind)
                if each.required
            }
            self.assertGreater(len(sentence(kind(**fields)).split()), 3, name)

    def test_count_the_verbs_of_a_document_from_one(self):
        for event in (
            VerbEnded(document=1, verb=0, name="Wait"),
            VerbRound(document=1, verb=0, steps=1),
            VerbAbandoned(document=1, verb=0, why="x"),
            StepStarted(key="1/0/1", digest="x"),
        ):
            self.assertIn("verb 1 of document 1", sentence(event).lower())

    def test_leave_out_the_queries_of_urls(self):
        for why, wanted in (
            ("POST http://app/x?token=1&b=2: status 500", "POST http://app/x?...: status 500"),
            ("GET https://app/?t=a:b", "GET https://app/?...."),
            ("no URL? none", "no URL? none."),
            ("Connection was refused.", "Connection was refused."),
        ):
            said = sentence(DocumentFailed(number=1, attempt=2, why=why))
            self.assertEqual(said, f"Try 2 to fetch document 1 failed: {wanted.removesuffix('.')}.")
        self.assertNotIn("secret", sentence(request()) + sentence(OWED))

    def test_of_an_event_of_a_newer_version_name_its_type(self):
        self.assertEqual(
            sentence(Unknown(type="CallTransferred", data=b"{}")),
            "CallTransferred: an event that this version does not know.",
        )
        self.assertEqual(sentence(Unknown(type="", data=b"")), "An event that cannot be read.")
