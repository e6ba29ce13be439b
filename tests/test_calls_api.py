"""What became of calls, over HTTP: records, lists, what is sent again, requests that are repeated."""

import json
from base64 import urlsafe_b64encode

from treq.testing import StubTreq
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.config import Config
from plivotx.events import (
    AttemptStarted,
    CallbackDelivered,
    CallbackFailed,
    CallbackGivenUp,
    CallbackRenewed,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelRang,
    Gateway,
)
from plivotx.log.interface import Unreadable, Unwritable
from plivotx.log.memory import MemoryLog
from plivotx.rest.app import Api
from plivotx.testing import ANSWER_URL, APPLICATION, HANGUP_URL, SELF, WALL, Answer, EmulatedWorld

NAMES = [
    "AccountSID",
    "AnswerTime",
    "Attempt",
    "BillDuration",
    "CallUUID",
    "Changed",
    "Created",
    "Direction",
    "From",
    "Gateway",
    "HangupCause",
    "RequestUUID",
    "RingTime",
    "State",
    "Switch",
    "To",
    "Undelivered",
    "EndTime",
]
FORM = {"From": "1000", "To": "486", "Gateways": SELF, "AnswerUrl": ANSWER_URL}


def request(stream: str, **more: object) -> CallRequested:
    wanted = {
        "request_uuid": stream,
        "from_number": "1000",
        "to_number": "+4930123",
        "gateways": (Gateway(prefix=SELF),),
        "answer_url": ANSWER_URL,
        "hangup_url": HANGUP_URL,
    }
    return CallRequested(**{**wanted, **more})


class OnALog(SynchronousTestCase):
    """The API on a log, without an engine."""

    def setUp(self):
        self.clock = Clock()
        self.now = WALL
        self.log = MemoryLog(schedule=lambda turn: self.clock.callLater(0, turn), wall=lambda: self.now)
        self.serve(Config())

    def serve(self, config):
        api = Api(config, fail, lambda event: None, lambda: "uuid", self.log, fail, fail)
        self.web = StubTreq(api.app.resource())

    def append(self, stream, *events):
        appended = self.log.append(stream, events)
        self.clock.advance(0)
        self.successResultOf(appended)

    def ask(self, url, method="GET", **more):
        response = self.successResultOf(self.web.request(method, f"http://plivotx.test{url}", **more))
        return response.code, self.successResultOf(response.content())

    def get(self, url):
        status, body = self.ask(url)
        return status, json.loads(body)

    def listed(self, query=""):
        status, answer = self.get(f"/v0.1/Calls/?{query}")
        self.assertEqual((status, answer["Success"], answer["Message"]), (200, True, "Call List Executed"))
        return [each["RequestUUID"] for each in answer["Calls"]]

    def refused(self, query):
        status, answer = self.get(f"/v0.1/Calls/?{query}")
        self.assertEqual((status, answer["Success"], answer["Calls"], answer["Next"]), (200, False, [], None))
        return answer["Message"]


class Lists(OnALog):
    def setUp(self):
        super().setUp()
        self.append("a", request("a", from_number="+1000", account_sid="x"))
        self.now += 1
        started = AttemptStarted(number=1, gateway="one/", channel="c", switch="default", core="k")
        self.append("b", request("b", to_number="222"), started)
        self.now += 1
        self.append(
            "c",
            request("c", to_number="4930123", account_sid="x"),
            started,
            ChannelRang(channel="c", at=2_000_000),
            ChannelAnswered(channel="c", at=3_000_000),
            CallEnded(cause="USER_BUSY", call_uuid="c", at=7_500_000),
            CallClosed(undelivered=1),
        )

    def test_are_newest_first_and_say_what_the_read_model_has(self):
        self.assertEqual(self.listed(), ["c", "b", "a"])
        status, answer = self.get("/v0.1/Calls")
        self.assertEqual((status, answer["Next"]), (200, None))
        newest, _, oldest = answer["Calls"]
        self.assertEqual(
            newest,
            {
                "RequestUUID": "c",
                "State": "closed",
                "Direction": "outbound",
                "From": "1000",
                "To": "4930123",
                "AccountSID": "x",
                "Switch": "default",
                "Gateway": "one/",
                "Attempt": 1,
                "CallUUID": "c",
                "Created": "2027-01-15T08:00:02.000Z",
                "Changed": "2027-01-15T08:00:02.000Z",
                "RingTime": "1970-01-01T00:00:02.000Z",
                "AnswerTime": "1970-01-01T00:00:03.000Z",
                "EndTime": "1970-01-01T00:00:07.500Z",
                "BillDuration": 4.5,
                "HangupCause": "USER_BUSY",
                "Undelivered": 1,
            },
        )
        self.assertEqual(sorted(oldest), sorted(NAMES))
        self.assertEqual((oldest["State"], oldest["CallUUID"], oldest["EndTime"]), ("accepted", None, None))

    def test_can_be_asked_for_by_each_parameter(self):
        for query, wanted in (
            ("State=closed", ["c"]),
            ("State=dialling", ["b"]),
            ("AccountSID=x", ["c", "a"]),
            ("Gateway=one/", ["c", "b"]),
            ("HangupCause=USER_BUSY", ["c"]),
            ("CallUUID=c", ["c"]),
            ("Undelivered=true", ["c"]),
            ("Undelivered=false", ["c", "b", "a"]),
            ("State=&From=", ["c", "b", "a"]),
            ("AccountSID=x&State=closed", ["c"]),
            ("Limit=2", ["c", "b"]),
            ("Limit=1000", ["c", "b", "a"]),
        ):
            with self.subTest(query=query):
                self.assertEqual(self.listed(query), wanted)

    def test_compare_numbers_with_and_without_a_plus(self):
        for query in ("To=4930123", "To=%2B4930123", "To=+4930123"):
            self.assertEqual(self.listed(query), ["c", "a"], query)
        for query in ("From=1000", "From=%2B1000"):
            self.assertEqual(self.listed(query), ["c", "b", "a"], query)
        self.assertEqual(self.listed("To=493012"), [])

    def test_take_spans_of_time_as_iso_8601_or_seconds(self):
        for text in (
            "2027-01-15T08:00:01Z",
            "2027-01-15T08:00:01",
            "2027-01-15T09:00:01%2B01:00",
            "2027-01-15T09:00:01+01:00",
            "2027-01-15T08:00:01.000Z",
            "1800000001",
            "1800000001.0",
        ):
            self.assertEqual(self.listed(f"Since={text}"), ["c", "b"], text)
            self.assertEqual(self.listed(f"Until={text}"), ["a"], text)
        self.assertEqual(self.listed("Since=1800000001&Until=1800000002"), ["b"])
        self.assertEqual(self.listed("Since=2027-01-15"), ["c", "b", "a"])

    def test_refuse_what_is_wrong_with_its_name_and_value(self):
        for query, why in (
            ("State=over", "State is not Valid: 'over' is none of accepted, dialling, ringing"),
            ("Since=yesterday", "Since is not Valid: 'yesterday' is no time"),
            ("Until=-1", "Until is not Valid: '-1' is no time"),
            ("Until=999999999999", "Until is not Valid: '999999999999' is no time"),
            (
                "Since=0001-01-01T00:00:00%2B23:59",
                "Since is not Valid: '0001-01-01T00:00:00+23:59' is no time",
            ),
            ("Undelivered=yes", "Undelivered is not Valid: 'yes' is neither true nor false"),
            ("Limit=0", "Limit is not Valid: '0' is no integer from 1 to 1000"),
            ("Limit=1001", "Limit is not Valid: '1001'"),
            ("Limit=ten", "Limit is not Valid: 'ten'"),
            ("Limit=%D9%A1", r"Limit is not Valid: '\u0661'"),
            ("After=x", "After is not Valid: 'x' is not what an answer had as Next"),
            ("After=%C3%A9", r"After is not Valid: '\xe9'"),
            ("After=WzEsMl0", "After is not Valid"),
            ("After=W05hTiwiYSJd", "After is not Valid"),
            ("AccountSID=a%00", r"AccountSID is not Valid: 'a\x00' holds NUL"),
            ("To=1&To=2", "To is not Valid: '2' comes twice"),
            ("Sate=closed", "'Sate' is no parameter of this request (there are: State, From, To, "),
            ("To=%FF", r"'To' is not UTF-8"),
            ("&".join(["State=closed"] * 300), "The query has more than 200 fields"),
        ):
            with self.subTest(query=query):
                self.assertIn(why, self.refused(query))

    def test_refuse_what_looks_like_a_next_and_is_none(self):
        for text in (
            '[NaN, "a"]',
            '[-Infinity, "a"]',
            f'[1{"0" * 400}, "a"]',
            "[" * 9000,
            r'[1.0, "\ud800"]',
            r'[1.0, "a\u0000"]',
            "[1.0, null]",
            '[1.0, "a", 1]',
            "1",
        ):
            forged = urlsafe_b64encode(text.encode()).decode().rstrip("=")
            with self.subTest(text=text[:20]):
                self.assertIn("After is not Valid", self.refused(f"After={forged}"))

    def test_are_continued_without_a_gap_or_a_double(self):
        for number in range(25):
            self.append(f"same moment {number}", request(f"s{number}"))
        for limit in (1, 7, 14, 27, 28, 29):
            seen, query = [], f"Limit={limit}"
            while True:
                answer = self.get(f"/v0.1/Calls/?{query}")[1]
                self.assertLessEqual(len(answer["Calls"]), limit)
                seen += [each["RequestUUID"] for each in answer["Calls"]]
                if answer["Next"] is None:
                    break
                query = f"Limit={limit}&After={answer['Next']}"
            self.assertEqual(len(seen), 28)
            self.assertEqual(len(set(seen)), 28)
            self.assertEqual(seen[-2:], ["b", "a"])

    def test_of_a_log_that_cannot_be_read_are_to_be_asked_for_again(self):
        self.log.calls = lambda *_: fail(Unreadable("gone"))
        self.log.read = lambda *_: fail(Unreadable("gone"))
        for url in ("/v0.1/Calls/", "/v0.1/Calls/c/"):
            status, answer = self.get(url)
            self.assertEqual((status, answer["Message"]), (503, "The event log cannot be read now"))

    def test_and_records_know_their_methods(self):
        for url in ("/v0.1/Calls/", "/v0.1/Calls/c/"):
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                status, body = self.ask(url, method)
                self.assertEqual((status, json.loads(body)["Success"]), (405, False), url)
            self.assertEqual(self.ask(url, "HEAD")[0], 200)
        for method in ("GET", "HEAD", "PUT"):
            self.assertEqual(self.ask("/v0.1/Calls/c/Resend/", method)[0], 405)

    def test_and_records_are_for_those_who_may_ask(self):
        self.serve(Config(auth_id="id", auth_token="token"))
        for url in ("/v0.1/Calls/", "/v0.1/Calls/c/", "/v0.1/Calls/no/"):
            status, answer = self.get(url)
            self.assertEqual((status, answer["Message"]), (401, "HTTP Auth Failed"))
            self.assertNotIn("Call", answer)
            self.assertEqual(self.ask(url, auth=("id", "token"))[0], 404 if "no" in url else 200)
        self.assertEqual(self.ask("/v0.1/Calls/c/Resend/", "POST")[0], 401)


class Records(OnALog):
    def test_are_shown_whole(self):
        self.append("a", request("a"), CallEnded(cause="USER_BUSY"))
        for url in ("/v0.1/Calls/a/", "/v0.1/Calls/a"):
            status, answer = self.get(url)
            self.assertEqual(status, 200)
            self.assertEqual(
                (answer["Success"], answer["Message"], answer["RequestUUID"]),
                (True, "Call Record Executed", "a"),
            )
            self.assertEqual(answer["Call"]["HangupCause"], "USER_BUSY")
            self.assertEqual(len(answer["Call"]["Timeline"]), 2)

    def test_that_are_not_there_are_said_so(self):
        for uuid in ("no", "n%C3%B6", "%3Cb%3E", "x" * 1000):
            status, answer = self.get(f"/v0.1/Calls/{uuid}/")
            self.assertEqual((status, answer["Success"], answer["RequestUUID"]), (404, False, ""))
            self.assertRegex(answer["Message"], "^There is no call '.{1,90}' on record$")

    def test_are_given_from_a_version_on(self):
        started = AttemptStarted(number=1, gateway="one/", channel="c", switch="default", core="k")
        self.append("a", request("a"), started, ChannelRang(channel="c", at=1))
        whole = self.get("/v0.1/Calls/a/")[1]["Call"]["Timeline"]
        for after in range(4):
            status, answer = self.get(f"/v0.1/Calls/a/?After={after}")
            self.assertEqual((status, answer["Message"]), (200, "Call Record Executed"))
            self.assertEqual(answer["RequestUUID"], "a")
            self.assertEqual(answer["Call"], {"State": "ringing", "Timeline": whole[after:]})
        self.assertIn("attempt 1", whole[2]["Text"])
        self.assertEqual(self.get("/v0.1/Calls/a/?After=")[1]["Call"]["Timeline"], whole)
        self.assertEqual(self.get("/v0.1/Calls/no/?After=1")[0], 404)

    def test_refuse_what_is_wrong_with_its_name_and_value(self):
        self.append("a", request("a"))
        for query, why in (
            ("Verbose=true", "'Verbose' is no parameter of this request (there are: After)"),
            ("After=-1", "After is not Valid: '-1' is no version, which is an integer from 0"),
            ("After=1.0", "After is not Valid: '1.0' is no version"),
            ("After=%D9%A1", r"After is not Valid: '\u0661' is no version"),
            ("After=2", "After is not Valid: '2' is beyond the latest version of the call, 1"),
            ("After=" + "9" * 5000, "is no version"),
            ("After=1&After=1", "After is not Valid: '1' comes twice"),
        ):
            with self.subTest(query=query[:20]):
                status, answer = self.get(f"/v0.1/Calls/a/?{query}")
                self.assertEqual((status, answer["Success"], answer["RequestUUID"]), (200, False, ""))
                self.assertIn(why, answer["Message"])
                self.assertNotIn("Call", answer)


class Stories(TestCase):
    def setUp(self):
        self.world = EmulatedWorld(Config(callback_tries=2))
        self.world.start()
        self.addCleanup(self.world.end)

    async def post(self, params, **more):
        """POST a form; the status, the header of a repeated answer, and the answer."""
        asked = Deferred.fromCoroutine(self.exchange(params, **more))
        await self.world.until(lambda: asked.called)
        return await asked

    async def exchange(self, params, **more):
        web = self.world.process.web
        response = await web.post("http://plivotx.test/v0.1/Call/", data=params, **more)
        replayed = response.headers.getRawHeaders("Idempotent-Replayed")
        return response.code, replayed, json.loads(await web.content(response))

    async def record(self, call):
        return (await self.world.get(f"/v0.1/Calls/{call}/"))["Call"]


class Told(Stories):
    async def test_a_failover_is_told_attempt_by_attempt(self):
        world = self.world
        uuid = await world.call(
            "101", Gateways=f"sofia/gateway/dead/,{SELF}", GatewayTimeouts="2", TimeLimit="3"
        )
        await world.closed(uuid)
        call = await self.record(uuid)
        first, second = call["Attempts"]
        self.assertEqual((first["Gateway"], second["Gateway"]), ("sofia/gateway/dead/", SELF))
        self.assertEqual((first["Number"], second["Number"]), (1, 2))
        self.assertIn(f"before it rang; {SELF} is tried next", first["Why"])
        self.assertTrue(first["Cause"] and first["Q850"], first)
        self.assertGreater(second["RingDelay"], 0)
        self.assertLess(second["RingDelay"], second["AnswerDelay"])
        self.assertIsNone(second["Why"])
        self.assertEqual((call["State"], call["HangupCause"]), ("closed", second["Cause"]))
        self.assertEqual(call["CallUUID"], second["CallUUID"])
        self.assertEqual([each["State"] for each in call["Callbacks"]], ["delivered", "delivered"])
        texts = [each["Text"] for each in call["Timeline"]]
        self.assertTrue(any(each.startswith("Attempt 2 is dialled through") for each in texts), texts)
        listed = await world.get(Gateway=SELF, State="closed")
        self.assertEqual([each["RequestUUID"] for each in listed["Calls"]], [uuid])

    async def test_a_call_that_reached_its_limit_was_hung_up_by_plivotx(self):
        call = await self.world.call("101", TimeLimit="2")
        self.world.application.answers["answer"] = Answer(body=b"<Response><Wait length='60'/></Response>")
        await self.world.closed(call)
        told = await self.record(call)
        self.assertEqual(told["Attempts"][0]["HungUpBy"], "plivotx")
        self.assertEqual(told["HangupCause"], "ALLOTTED_TIMEOUT")
        self.assertLess(abs(told["BillDuration"] - 2), 1)


class Resending(Stories):
    async def given_up(self):
        """A call whose callbacks could not be delivered."""
        world = self.world
        world.application.answers.update(ring=Answer(status=500), hangup=Answer(status=503))
        call = await world.call("486")
        await world.closed(call)
        return call

    async def resend(self, call, **params):
        return await self.world.post(f"/v0.1/Calls/{call}/Resend/", **params)

    def kinds(self, call, kind):
        return [each for each in self.world.events(call) if isinstance(each, kind)]

    async def test_delivers_what_was_given_up_and_closes_the_call_again(self):
        world = self.world
        call = await self.given_up()
        listed = await world.get(Undelivered="true")
        self.assertEqual([each["Undelivered"] for each in listed["Calls"]], [1])
        (callback,) = (await self.record(call))["Callbacks"]
        self.assertEqual((callback["State"], len(callback["Tries"])), ("given-up", 2))
        before = world.application.received[-1]
        world.application.answers.clear()
        answer = await self.resend(call)
        self.assertEqual(
            answer,
            {"Success": True, "Message": "Resend Executed", "RequestUUID": call, "Callbacks": ["hangup"]},
        )
        await world.until(lambda: len(self.kinds(call, CallClosed)) == 2)
        after = world.application.received[-1]
        self.assertEqual(after.params, before.params)
        self.assertEqual((await self.record(call))["Callbacks"][0]["State"], "delivered")
        self.assertEqual((await world.get(Undelivered="true"))["Calls"], [])
        self.assertEqual((await world.get())["Calls"][0]["State"], "closed")
        self.assertEqual(len(self.kinds(call, CallEnded)), 1)
        await world.passes(60)
        self.assertEqual(world.process.server.engine.idle()["calls"], 0)
        self.assertEqual(len(world.switch.dialled), 1)

    async def test_tells_nothing_of_how_gateways_are_doing_now(self):
        world = self.world
        world.application.answers.update(hangup=Answer(status=503))
        call = await world.call(
            "486", Gateways="sofia/gateway/dead/,sofia/gateway/dead/", GatewayTimeouts="2,2"
        )
        await world.closed(call)
        world.kill()
        world.start()
        standing = world.process.server.engine.gateways
        self.assertTrue((await self.resend(call))["Success"])
        await world.until(lambda: len(self.kinds(call, CallClosed)) == 2)
        self.assertEqual(standing.failures("sofia/gateway/dead/"), (0, 0.0))

    async def test_of_a_call_that_goes_on_leaves_its_state_and_the_cause_of_its_end_alone(self):
        world = self.world
        world.application.answers["ring"] = Answer(status=503)
        call = await world.call("100", RingUrl=f"{APPLICATION}/ring/", TimeLimit="30")
        await world.recorded(call, CallbackGivenUp)
        world.application.answers.clear()
        self.assertTrue((await self.resend(call))["Success"])
        (row,) = (await world.get("/v0.1/Calls/"))["Calls"]
        self.assertEqual((row["State"], (await self.record(call))["State"]), ("in-progress", "in-progress"))
        await world.closed(call)
        (row,) = (await world.get("/v0.1/Calls/"))["Calls"]
        self.assertEqual((row["State"], row["HangupCause"]), ("closed", "ALLOTTED_TIMEOUT"))
        self.assertIsNotNone(row["EndTime"])
        self.assertEqual(len(world.application.told("ring")), 3)

    async def test_gives_up_anew_after_as_many_tries(self):
        world = self.world
        call = await self.given_up()
        await self.resend(call, Key="hangup")
        await world.until(lambda: len(self.kinds(call, CallClosed)) == 2)
        self.assertEqual(len(self.kinds(call, CallbackFailed)), 4)
        self.assertEqual(len(self.kinds(call, CallbackGivenUp)), 2)
        self.assertEqual(self.kinds(call, CallClosed)[-1], CallClosed(undelivered=1, renewal=1))
        self.assertTrue((await self.resend(call))["Success"])
        self.assertEqual(self.kinds(call, CallbackRenewed)[-1].renewal, 2)

    async def test_survives_a_death_in_between(self):
        world = self.world
        call = await self.given_up()
        world.application.answers["hangup"] = Answer(never=True)
        await self.resend(call)
        world.kill()
        world.application.answers.clear()
        world.start()
        await world.until(lambda: len(self.kinds(call, CallClosed)) == 2)
        self.assertEqual(len(self.kinds(call, CallbackDelivered)), 1)
        self.assertEqual(len(self.kinds(call, CallEnded)), 1)

    async def test_refuses_what_cannot_be_sent_again(self):
        world = self.world
        call = await self.given_up()
        for params, why in (
            (
                {"Key": "ring"},
                "Key is not Valid: 'ring' is no callback that was given up (there are: hangup)",
            ),
            ({"Kee": "ring"}, "'Kee' is no parameter of this request (there are: Key)"),
        ):
            answer = await self.resend(call, **params)
            self.assertEqual((answer["Success"], answer["Message"]), (False, why))
        self.assertEqual(self.kinds(call, CallbackRenewed), [])
        world.application.answers.clear()
        await self.resend(call)
        await world.until(lambda: len(self.kinds(call, CallClosed)) == 2)
        answer = await self.resend(call)
        self.assertEqual(
            (answer["Success"], answer["Message"]),
            (False, "There is nothing to send again: no callback of the call was given up"),
        )
        asked = world.process.post("/v0.1/Calls/no/Resend/", {})
        status, answer = await asked
        self.assertEqual((status, answer["Message"]), (404, "There is no call 'no' on record"))

    async def test_asked_for_twice_at_once_sends_once(self):
        world = self.world
        call = await self.given_up()
        asked = [world.process.post(f"/v0.1/Calls/{call}/Resend/", {}) for _ in range(3)]
        await world.until(lambda: all(each.called for each in asked))
        answers = [answer["Success"] for _, answer in await gatherResults(asked)]
        self.assertEqual(sorted(answers), [False, False, True])
        self.assertEqual(len(self.kinds(call, CallbackRenewed)), 1)

    async def test_of_a_call_that_goes_on_is_possible(self):
        world = self.world
        world.application.answers["ring"] = Answer(status=500)
        call = await world.call("101", TimeLimit="20")
        world.application.answers["answer"] = Answer(body=b"<Response><Wait length='60'/></Response>")
        await world.recorded(call, CallbackGivenUp)
        del world.application.answers["ring"]
        self.assertEqual((await self.resend(call))["Callbacks"], ["ring"])
        await world.closed(call)
        self.assertEqual([each.key for each in self.kinds(call, CallbackDelivered)], ["ring", "hangup"])
        self.assertEqual(self.kinds(call, CallClosed), [CallClosed(renewal=1)])

    async def test_waits_for_a_log_that_cannot_be_read(self):
        world = self.world
        call = await self.given_up()
        world.application.answers.clear()
        log = world.process.log
        read, refusals = log.read, iter((False, True, True))
        log.read = lambda *args: fail(Unreadable("later")) if next(refusals, False) else read(*args)
        self.assertTrue((await self.resend(call))["Success"])
        await world.until(lambda: len(self.kinds(call, CallClosed)) == 2)

    async def test_of_a_log_that_cannot_be_written_is_to_be_asked_for_again(self):
        call = await self.given_up()
        self.world.process.log.refusing = "full"
        asked = self.world.process.post(f"/v0.1/Calls/{call}/Resend/", {})
        await self.world.until(lambda: asked.called)
        self.assertEqual((await asked)[0], 503)


class Repeating(Stories):
    def keyed(self, key):
        return {"headers": {"Idempotency-Key": key}}

    async def test_gives_the_answer_of_the_first_and_makes_one_call(self):
        world = self.world
        status, replayed, first = await self.post(FORM, **self.keyed("order 1"))
        self.assertEqual((status, replayed, first["Success"]), (200, None, True))
        self.assertEqual(await self.post(FORM, **self.keyed("order 1")), (200, ["true"], first))
        await world.closed(first["RequestUUID"])
        world.kill()
        world.start()
        self.assertEqual(await self.post(FORM, **self.keyed("order 1")), (200, ["true"], first))
        self.assertEqual(len(world.switch.dialled), 1)
        _, replayed, other = await self.post(FORM, **self.keyed("order 2"))
        self.assertIsNone(replayed)
        self.assertNotEqual(other["RequestUUID"], first["RequestUUID"])

    async def test_with_other_parameters_is_refused(self):
        await self.post(FORM, **self.keyed("k"))
        status, replayed, answer = await self.post({**FORM, "To": "102"}, **self.keyed("k"))
        self.assertEqual((status, replayed, answer["Success"], answer["RequestUUID"]), (200, None, False, ""))
        self.assertEqual(
            answer["Message"], "Idempotency-Key is not Valid: 'k' came with other parameters before"
        )
        same = {**FORM, "HangupUrl": ANSWER_URL, "RingUrl": ""}  # what it would have been anyway
        self.assertEqual((await self.post(same, **self.keyed("k")))[1], ["true"])

    async def test_at_once_makes_one_call_and_all_get_its_answer(self):
        world = self.world
        asked = [Deferred.fromCoroutine(self.exchange(FORM, **self.keyed("k"))) for _ in range(5)]
        self.assertFalse(any(each.called for each in asked))
        await world.until(lambda: all(each.called for each in asked))
        answers = await gatherResults(asked)
        self.assertEqual(len({each["RequestUUID"] for _, _, each in answers}), 1)
        self.assertEqual([replayed for _, replayed, _ in answers], [None, *[["true"]] * 4])
        self.assertEqual(len(world.disk.streams), 1)

    async def test_after_it_was_forgotten_is_a_new_request(self):
        world = self.world
        _, _, first = await self.post(FORM, **self.keyed("k"))
        await world.closed(first["RequestUUID"])
        await world.passes(60)  # retention is longer: the switch has let go of the channel by then
        self.assertEqual(await world.process.log.forget(world.wall()), 1)
        status, replayed, again = await self.post(FORM, **self.keyed("k"))
        self.assertEqual((status, replayed, again), (200, None, first))
        await world.closed(first["RequestUUID"])
        self.assertEqual(len(world.switch.dialled), 2)

    async def test_is_another_request_for_another_account(self):
        _, _, first = await self.post(FORM, **self.keyed("k"))
        config = Config(auth_id="other", auth_token="token")
        self.world.kill()
        self.world.config = config
        self.world.start()
        _, replayed, second = await self.post(FORM, auth=("other", "token"), **self.keyed("k"))
        self.assertIsNone(replayed)
        self.assertNotEqual(first["RequestUUID"], second["RequestUUID"])

    async def test_of_a_refused_form_needs_no_other_key(self):
        _, _, refused = await self.post({**FORM, "TimeLimit": "0"}, **self.keyed("k"))
        self.assertFalse(refused["Success"])
        _, replayed, answer = await self.post(FORM, **self.keyed("k"))
        self.assertEqual((replayed, answer["Success"]), (None, True))

    async def test_finds_the_call_though_the_operator_would_refuse_it_by_now(self):
        """The call was made; that a new one like it would be refused must not let its client think otherwise."""
        first = await self.post(FORM, **self.keyed("k"))
        self.world.kill()
        self.world.config = Config(denied_destinations=(FORM["To"],))
        self.world.start()
        self.assertEqual(await self.post(FORM, **self.keyed("k")), (200, ["true"], first[2]))
        _, replayed, other = await self.post({**FORM, "From": "7"}, **self.keyed("k"))
        self.assertIsNone(replayed)
        self.assertIn("Idempotency-Key is not Valid: 'k' came with other parameters before", other["Message"])
        for more in ({}, self.keyed("new")):
            _, _, refused = await self.post(FORM, **more)
            self.assertIn(
                "To is not Valid: '486' is a destination that may not be dialled", refused["Message"]
            )
        self.assertEqual(len(self.world.disk.streams), 1)

    async def test_takes_printable_keys_of_some_length_and_no_others(self):
        for good in ("x", "~" * 255, "a b", "{}"):
            self.assertTrue((await self.post(FORM, **self.keyed(good)))[2]["Success"], good)
        for bad in ("", "x" * 256, "é", "tab\there", ["a", "b"]):
            _, _, answer = await self.post(FORM, **self.keyed(bad))
            self.assertFalse(answer["Success"], bad)
            self.assertRegex(
                answer["Message"], "^Idempotency-Key is not Valid: '.*' is not one header of 1 to"
            )
        self.assertEqual(len(self.world.disk.streams), 4)

    async def test_after_an_answer_that_nobody_got_finds_the_call(self):
        """The first was told 503, or nothing at all, and yet it is on record."""
        log = self.world.process.log
        append = log.append

        def doubtful(*args: object, **more: object) -> Deferred[int]:
            log.append = append
            return append(*args, **more).addCallback(lambda _: fail(Unwritable("the answer was lost")))

        log.append = doubtful
        status, _, _ = await self.post(FORM, **self.keyed("k"))
        self.assertEqual(status, 503)
        status, replayed, answer = await self.post(FORM, **self.keyed("k"))
        self.assertEqual((status, replayed, answer["Success"]), (200, ["true"], True))
        self.assertEqual(len(self.world.disk.streams), 1)
