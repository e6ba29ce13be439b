"""What the call page says of a real FreeSWITCH beyond the stories: rules of gateways, EXTRA_FS_VARS."""

import re

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import TestCase

from plivotx.config import Config, GatewayRules
from plivotx.events import AttemptFailed, AttemptStarted
from tests.freeswitch.world import PASSWORD, SKIP, RealWorld


class Trying(DatagramProtocol):
    """A SIP server that says 100 Trying to an INVITE, if it is to, and nothing else ever."""

    def __init__(self, tries):
        self.tries = tries
        self.methods = []

    def datagramReceived(self, datagram, addr):
        text = datagram.decode()
        self.methods.append(text.split(" ", 1)[0])
        if self.tries and text.startswith("INVITE "):
            copied = re.findall(r"^(?:Via|From|To|Call-ID|CSeq): .*\r\n", text, re.MULTILINE)
            answer = f"SIP/2.0 100 Trying\r\n{''.join(copied)}Content-Length: 0\r\n\r\n"
            self.transport.write(answer.encode(), addr)


class OnARealSwitch(TestCase):
    skip = SKIP or None
    timeout = 120

    def start(self, **config):
        self.world = RealWorld(Config(fs_inbound_password=PASSWORD, **config))
        self.world.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.leave()))
        return self.world

    async def profile(self):
        """The SIP profile behind which the far ends of the stories are."""
        await self.world.observer.when_up()
        status = (await self.world.observer.api("sofia status gateway self")).text
        return re.search(r"^Profile\s+(\S+)", status, re.MULTILINE)[1]

    async def test_a_far_end_that_says_nothing_or_trying_is_followed_by_the_next_in_time(self):
        world = self.start(gateways=(GatewayRules(prefix="sofia/", progress_timeout=2),))
        profile = await self.profile()
        for tries in (False, True):
            world.application.received.clear()
            far_end = Trying(tries)
            port = reactor.listenUDP(0, far_end, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            call = await world.call(
                f"1@127.0.0.1:{port.getHost().port}", Gateways=f"sofia/{profile}/,sofia/{profile}/"
            )
            began = reactor.seconds()
            events = await world.closed(call)
            self.assertTrue(4 <= reactor.seconds() - began <= 8, reactor.seconds() - began)
            failed = [each.cause for each in events if isinstance(each, AttemptFailed)]
            self.assertEqual(failed, ["PROGRESS_TIMEOUT"] * 2)
            self.assertEqual((await world.told("hangup"))["HangupCause"], "PROGRESS_TIMEOUT")
            # without a provisional answer there is nothing that may be cancelled
            self.assertEqual("CANCEL" in far_end.methods, tries)

    async def test_a_far_end_that_rings_may_take_longer(self):
        world = self.start(gateways=(GatewayRules(prefix="sofia/", progress_timeout=2),))
        for number in ("104", "205"):
            world.application.received.clear()
            await world.closed(await world.call(number, TimeLimit="1"))
            self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_a_cause_that_ends_the_search_is_the_cause_of_the_call(self):
        world = self.start(gateways=(GatewayRules(prefix="sofia/", stop_causes=("UNALLOCATED_NUMBER",)),))
        for number, attempts, cause in (("404", 1, "UNALLOCATED_NUMBER"), ("486", 2, "USER_BUSY")):
            world.application.received.clear()
            call = await world.call(number, Gateways=f"{world.gateway},{world.gateway}")
            events = await world.closed(call)
            self.assertEqual(len([each for each in events if isinstance(each, AttemptStarted)]), attempts)
            self.assertEqual((await world.told("hangup"))["HangupCause"], cause)

    async def test_extra_fs_vars_have_the_values_of_the_moment(self):
        names = ("Channel-Name", "Answer-State", "variable_mine", "variable_nosuch")
        world = self.start(extra_fs_vars=(*names, "variable_sip_term_status"))
        await world.closed(await world.call("101", ExtraDialString="mine='a, Zoë'", TimeLimit="1"))
        for path, state in (("ring", "ringing"), ("answer", "answered"), ("hangup", "hangup")):
            (told,) = world.application.told(path)
            with self.subTest(path=path):
                self.assertEqual(told["Channel-Name"], f"sofia/{await self.profile()}/101")
                self.assertEqual([told[each] for each in names[1:]], [state, "a, Zoë", ""])
        world.application.received.clear()
        await world.closed(await world.call("486", ExtraDialString="mine=7"))
        (hangup,) = world.application.told("hangup")
        self.assertEqual((hangup["variable_sip_term_status"], hangup["variable_mine"]), ("486", "7"))
