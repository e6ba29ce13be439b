"""A real `twistd plivotx`, a real `kill -9`, a real FreeSWITCH."""

import os
import socket
from pathlib import Path

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from plivotx.testing import SELF
from tests.freeswitch.world import ADDRESS, PASSWORD, SKIP, RealWorld
from tests.kills.world import ROOT, Server


class Customer(Resource):
    """Answers requests with the document for their path, else with a long Wait, and keeps what it was told."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.told = []
        self.documents = {}

    def render_POST(self, request):
        form = {name.decode(): values[0].decode() for name, values in request.args.items()}
        path = request.path.decode().strip("/")
        self.told.append((path, form))
        document = self.documents.get(path, "<Wait length='600'/>")
        return f"<Response>{document}</Response>".encode()


class Killed(TestCase):
    skip = SKIP or None
    timeout = 120

    def setUp(self):
        self.world = RealWorld()  # only looks at the switch
        self.ended = []
        self.world.observer.on_event = lambda _, event: self.ended.append(event)
        self.customer = Customer()
        self.port = reactor.listenTCP(0, Site(self.customer), interface="127.0.0.1")
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.server = None

    def tearDown(self):
        return Deferred.fromCoroutine(self.leave())

    async def leave(self):
        if self.server:
            await self.server.signal("KILL")
        await self.port.stopListening()
        await self.world.leave()

    async def start(self):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PLIVOTX_HTTP_ADDRESS": self.address,
            "PLIVOTX_LOG": "sqlite:plivotx.sqlite",
            "PLIVOTX_FS_INBOUND_ADDRESS": ADDRESS,
            "PLIVOTX_FS_INBOUND_PASSWORD": PASSWORD,
        }
        self.server = Server(environment, self.folder.absolute())
        await self.server.serving

    async def kill(self):
        server, self.server = self.server, None
        await server.signal("KILL")

    async def call(self, to, **params):
        here = f"http://127.0.0.1:{self.port.getHost().port}"
        form = {
            "From": "1000",
            "To": to,
            "Gateways": SELF,
            "AnswerUrl": f"{here}/answer/",
            "RingUrl": f"{here}/ring/",
            "HangupUrl": f"{here}/hangup/",
            **params,
        }
        response = await treq.post(f"http://{self.address}/v0.1/Call/", data=form, persistent=False)
        answer = await response.json()
        self.assertTrue(answer["Success"], answer)

    def told(self, path):
        return [form for where, form in self.customer.told if where == path]

    async def test_answered_killed_and_started_the_time_limit_ends_it_and_is_told_once(self):
        await self.start()
        await self.call("100", TimeLimit="8")
        await self.world.until(lambda: self.told("answer"), 10)
        await self.world.passes(1)
        await self.kill()
        await self.world.passes(1)
        self.assertEqual(len(await self.world.channels()), 1)
        await self.start()
        await self.world.until(lambda: self.told("hangup"), 20)
        await self.world.passes(2)
        (hangup,) = self.told("hangup")
        self.assertEqual(hangup["HangupCause"], "ALLOTTED_TIMEOUT")
        self.assertEqual(len(self.told("answer")), 1)
        self.assertEqual(await self.world.channels(), [])

    async def test_ringing_killed_and_not_started_the_switch_ends_it(self):
        await self.start()
        await self.call("3", HangupOnRing="1")
        await self.world.until(lambda: self.told("ring"), 10)
        await self.kill()
        self.assertEqual(len(await self.world.channels()), 1)
        await self.world.passes(7)
        self.assertEqual(await self.world.channels(), [])
        self.assertEqual(self.told("hangup"), [])
        await self.start()
        await self.world.until(lambda: self.told("hangup"), 20)
        (hangup,) = self.told("hangup")
        self.assertEqual(hangup["HangupCause"], "ORIGINATOR_CANCEL")

    def ran(self):
        """The applications of verbs that have ended, and their arguments."""
        ends = [each for each in self.ended if each.get("Event-Name") == "CHANNEL_EXECUTE_COMPLETE"]
        ran = [(each["Application"], each.get("Application-Data", "")) for each in ends]
        return [each for each in ran if each[0] not in ("park", "set", "sched_hangup")]

    async def press(self, keys):
        (channel,) = await self.world.channels()
        for key in keys:
            await self.world.observer.api(f"uuid_recv_dtmf {channel} {key}")

    async def test_in_the_middle_of_a_play_the_caller_hears_on_and_what_follows_runs_once(self):
        tone = "tone_stream://%(1000,0,440)"
        self.customer.documents["answer"] = f"<Play loop='6'>{tone}</Play><Speak>goodbye</Speak>"
        await self.start()
        await self.call("9")
        await self.world.until(lambda: self.told("answer"), 10)
        await self.world.passes(1)
        await self.kill()
        await self.world.passes(1)
        (channel,) = await self.world.channels()
        playing = await self.world.observer.api(f"uuid_getvar {channel} current_application")
        self.assertEqual(playing.text.strip(), "playback")
        await self.start()
        await self.world.until(lambda: self.told("hangup"), 20)
        self.assertEqual(self.ran(), [("playback", "!".join([tone] * 6)), ("speak", "flite|slt|goodbye")])
        (hangup,) = self.told("hangup")
        self.assertEqual(hangup["HangupCause"], "NORMAL_CLEARING")

    async def test_in_the_middle_of_getdigits_what_was_typed_counts_and_what_follows_runs_once(self):
        action = f"http://127.0.0.1:{self.port.getHost().port}/digits/"
        self.customer.documents["answer"] = (
            f"<GetDigits action='{action}' timeout='10' numDigits='4'/><Wait/>"
        )
        self.customer.documents["digits"] = "<Speak>thank you</Speak>"
        await self.start()
        await self.call("100")
        await self.world.until(lambda: self.told("answer"), 10)
        await self.world.passes(0.7)
        await self.press("12")
        await self.kill()
        await self.world.passes(0.5)
        await self.press("34")
        await self.world.passes(1)
        await self.start()
        await self.world.until(lambda: self.told("hangup"), 20)
        (digits,) = self.told("digits")
        self.assertEqual(digits["Digits"], "1234")
        self.assertEqual([app for app, _ in self.ran()], ["play_and_get_digits", "speak"])
