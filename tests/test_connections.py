"""The connections to a switch: how they are lost, noticed and made anew."""

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.config import Config
from plivotx.esl.connections import Disconnected, Switch, SwitchClock
from plivotx.events import AttemptFailed, CallEnded, JobFailed
from plivotx.testing import SELF, Answer, EmulatedWorld


class Connections(TestCase):
    def setUp(self):
        self.world = EmulatedWorld()
        self.addCleanup(self.world.end)

    @property
    def switch(self):
        return self.world.process.server.switches["default"]

    async def test_a_wrong_password_is_tried_again_and_never_up(self):
        self.world.config = Config(fs_inbound_password="wrong")
        self.world.start()
        await self.world.passes(60)
        self.assertFalse(self.switch.up)

    async def test_garbage_closes_the_connection_and_nothing_else(self):
        self.world.start()
        await self.world.passes(1)
        self.switch._events.dataReceived(b"Content-Length: minus one\n\n")
        self.assertFalse(self.switch.up)
        await self.world.passes(5)
        self.assertTrue(self.switch.up)
        self.assertEqual(self.switch.epoch, 2)

    async def test_what_comes_behind_a_disconnect_notice_counts_no_more(self):
        self.world.start()
        await self.world.passes(1)
        waiting = [self.switch.api("version"), self.switch.api("version")]
        self.switch._commands.dataReceived(
            b"Content-Type: text/disconnect-notice\nContent-Length: 3\n\nbye"
            b"Content-Type: api/response\nContent-Length: 1\n\nx"
        )
        for each in waiting:
            self.assertTrue(each.called)
        await self.world.passes(5)
        self.assertTrue(self.switch.up)

    async def test_a_connection_that_is_accepted_and_silent_is_given_up(self):
        network = self.world.network
        connect = network.connect
        made = []

        def silent(client):
            link = connect(client)
            made.append(link)
            if len(made) == 2:
                link.stall("client")
                self.world.clock.callLater(1, made[0].drop)
            return link

        network.connect = silent
        self.world.start()
        await self.world.passes(60)
        self.assertTrue(self.switch.up)

    async def test_a_long_queue_of_replies_that_keep_coming_is_no_dead_connection(self):
        emulated = self.world.switch
        api, busy = emulated.api, [0.0]

        def slow(command, argument, done):
            def later(text):
                busy[0] = max(busy[0], self.world.clock.seconds()) + 1 / 50
                self.world.clock.callLater(busy[0] - self.world.clock.seconds(), done, text)

            api(command, argument, later if command == "uuid_dump" else done)

        emulated.api = slow
        self.world.start()
        await self.world.passes(1)
        lost = []
        for number in range(1500):  # thirty seconds' worth
            dump = self.switch.api(f"uuid_dump 00000000-0000-5000-8000-{number:012d} json")
            dump.addErrback(lost.append)
        await self.world.passes(40)
        self.assertEqual((lost, self.switch.epoch), ([], 1))

    async def test_a_call_that_was_never_written_is_told_though_the_switch_stays_away(self):
        world = self.world
        world.latency = 0.05
        world.start()
        await world.passes(2)
        call = await world.call("100")
        world.network.refusing = True
        for link in list(world.network.links):
            link.drop()
        events = await world.closed(call, 200)
        self.assertEqual(
            [(each.cause, each.dialled) for each in events if isinstance(each, JobFailed)],
            [("NETWORK_OUT_OF_ORDER", False)],
        )
        (failed,) = [each for each in events if isinstance(each, AttemptFailed)]
        self.assertEqual(failed.why, "it was not dialled: NETWORK_OUT_OF_ORDER; no gateway is left")
        self.assertEqual(world.process.server.engine.gateways.failures(SELF), (0, 0.0))
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NETWORK_OUT_OF_ORDER")
        self.assertEqual(world.switch.dialled, [])

    async def test_an_originate_that_the_switch_does_not_take_ends_the_call_at_once(self):
        world = self.world
        world.start()
        await world.passes(1)
        bgapi = self.switch.bgapi

        def refuse(text, job):
            return bgapi("", job) if not text else self.switch.api("nosuchcommand")

        self.switch.bgapi = refuse
        call = await world.call("100")
        ended = await world.recorded(call, CallEnded, 5)
        self.assertIn("nosuchcommand", ended.cause)

    async def test_callbacks_that_hang_do_not_keep_an_answered_caller_waiting(self):
        world = self.world
        world.application.answers["hangup"] = Answer(never=True)
        world.start()
        for _ in range(100):
            await world.call("486")
        await world.passes(1)
        call = await world.call("100")
        await world.told("answer", 3)
        del call


class Stopping(SynchronousTestCase):
    def test_a_switch_that_was_stopped_while_it_connected_does_not_connect_again(self):
        clock = Clock()
        attempts = []

        class Endpoint:
            def connect(self, factory):
                connecting = Deferred(lambda waiting: waiting.errback(ConnectingCancelledError(None)))
                attempts.append(connecting)
                return connecting

        switch = Switch("s", Endpoint(), "x", clock, lambda: 0.5)
        switch.start()
        switch.stop()
        clock.pump([1.0] * 60)
        self.assertEqual(len(attempts), 1)

    def test_a_command_to_a_switch_that_is_not_connected_fails(self):
        class Endpoint:
            def connect(self, factory):
                return fail(ConnectionRefusedError())

        switch = Switch("s", Endpoint(), "x", Clock(), lambda: 0.5)
        self.failureResultOf(switch.api("version"), Disconnected)


class Clocks(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.clock.advance(1000)
        self.estimate = SwitchClock(self.clock)

    def test_nothing_is_known_before_the_first_timestamp(self):
        self.assertIsNone(self.estimate.remaining(5_000_000))

    def test_many_wait_for_the_first_timestamp_without_a_timer_and_any_of_them_may_leave(self):
        stays, leaves, stays_too = (self.estimate.when_known() for _ in range(3))
        leaves.cancel()
        self.failureResultOf(leaves, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.estimate.observe(1_000_000)
        for each in (stays, stays_too, self.estimate.when_known()):
            self.successResultOf(each)
        self.estimate.reset()
        self.assertNoResult(self.estimate.when_known())

    def test_the_message_that_came_the_fastest_counts(self):
        for delay in (3.0, 0.1, 7.0):
            self.estimate.observe(int((self.clock.seconds() + 500 - delay) * 1e6))
        left = self.estimate.remaining(int((self.clock.seconds() + 500 + 10) * 1e6))
        self.assertTrue(abs(left - 10.1) < 0.01, left)

    def test_a_clock_that_was_set_back_is_followed_after_a_while(self):
        self.estimate.observe(int((self.clock.seconds() + 500) * 1e6))
        for _ in range(40):
            self.clock.advance(20)
            self.estimate.observe(int((self.clock.seconds() + 400) * 1e6))
        left = self.estimate.remaining(int((self.clock.seconds() + 400 + 10) * 1e6))
        self.assertTrue(abs(left - 10) < 0.01, left)
