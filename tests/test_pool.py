"""Several switches: where calls go, and what becomes of them when one of the switches is lost."""

from twisted.trial.unittest import TestCase

from plivotx.emulator.memory import Network
from plivotx.emulator.switch import Switch as Emulated
from plivotx.events import AttemptStarted, CallEnded, StepStarted
from plivotx.testing import SELF, WALL, EmulatedWorld


class PoolWorld(EmulatedWorld):
    """A world with several emulated switches, of which any may be lost."""

    def __init__(self, config=None, names=("a", "b"), seed=0):
        super().__init__(config, seed)
        self.names = tuple(names)
        self.pool = {
            name: Emulated(self.clock, seed=number, wall=WALL) for number, name in enumerate(self.names)
        }
        self.ways = {name: Network(self.clock, switch) for name, switch in self.pool.items()}

    def endpoints(self):
        return {name: self.ways[name].endpoint() for name in self.names}

    async def connected(self):
        await self.until(lambda: all(self.process.server.switches[each].up for each in self.names))

    def lose(self, name):
        """Nothing reaches this switch any more."""
        self.ways[name].refusing = True
        for link in list(self.ways[name].links):
            link.drop()

    def find(self, name):
        """It can be reached again."""
        self.ways[name].refusing = False

    def dialled(self, name=None):
        """How many legs were dialled, on one switch or on all."""
        return sum(len(each.dialled) for key, each in self.pool.items() if name in (None, key))


class Pool(TestCase):
    def start(self, config=None, names=("a", "b")):
        self.world = PoolWorld(config, names)
        self.world.start()
        self.addCleanup(self.world.end)
        return self.world

    def attempts(self, call):
        return [
            (each.switch, each.gateway)
            for each in self.world.events(call)
            if isinstance(each, AttemptStarted)
        ]

    async def test_calls_that_come_all_at_once_are_spread(self):
        world = self.start(names=("a", "b", "c"))
        await world.connected()
        form = {"From": "1", "To": "100", "Gateways": SELF, "AnswerUrl": "http://application.test/answer/"}
        asked = [world.process.post("/v0.1/Call/", form) for _ in range(60)]
        await world.until(lambda: all(each.called for each in asked))
        await world.until(lambda: world.dialled() == 60)
        self.assertEqual([world.dialled(each) for each in world.names], [20, 20, 20])

    async def test_the_next_call_goes_where_the_fewest_are(self):
        world = self.start()
        await world.connected()
        world.lose("b")
        for _ in range(4):
            await world.recorded(await world.call("100"), AttemptStarted)
        world.find("b")
        await world.connected()
        for _ in range(4):
            await world.recorded(await world.call("100"), AttemptStarted)
        await world.until(lambda: world.dialled() == 8)
        self.assertEqual([world.dialled(each) for each in world.names], [4, 4])

    async def test_the_next_attempt_goes_there_too(self):
        world = self.start()
        world.lose("b")
        await world.recorded(await world.call("100"), AttemptStarted)
        world.pool["a"].gateways["slow"] = ()
        call = await world.call("100", Gateways=f"sofia/gateway/slow/,{SELF}", GatewayTimeouts="3,60")
        await world.recorded(call, AttemptStarted)
        world.find("b")
        await world.connected()
        await world.until(lambda: world.dialled("b"))
        self.assertEqual([each for each, _ in self.attempts(call)], ["a", "b"])
        self.assertEqual([each.cause for each in world.pool["a"].ended], ["NO_ANSWER"])

    async def test_an_attempt_in_doubt_is_waited_for_and_not_made_on_another_switch(self):
        world = self.start()
        await world.connected()
        call = await world.call("3", Gateways=f"{SELF},{SELF}")
        started = await world.recorded(call, AttemptStarted)
        await world.until(world.dialled)
        world.lose(started.switch)
        await world.passes(300)
        self.assertEqual(world.dialled(), 1)
        self.assertFalse(any(isinstance(each, CallEnded) for each in world.events(call)))
        world.find(started.switch)
        ended = await world.recorded(call, CallEnded)
        self.assertEqual(ended.cause, "NO_ANSWER")
        self.assertEqual(world.dialled(), 1)

    async def test_a_switch_that_is_no_longer_configured_ends_its_calls_and_no_others(self):
        world = self.start()
        await world.connected()
        calls = [await world.call("100") for _ in range(4)]
        for call in calls:
            await world.recorded(call, StepStarted)
        world.kill()
        world.names = ("b",)
        world.start()
        await world.passes(5)
        ended = {call: any(isinstance(each, CallEnded) for each in world.events(call)) for call in calls}
        switches = {call: self.attempts(call)[0][0] for call in calls}
        self.assertEqual(ended, {call: switch == "a" for call, switch in switches.items()})
        self.assertEqual(sorted(switches.values()), ["a", "a", "b", "b"])
        self.assertEqual(world.dialled(), 4)

    async def test_who_waits_for_a_switch_that_is_lost_goes_to_another(self):
        world = self.start()
        await world.connected()
        for each in world.ways.values():
            each.latency = 0.05
        form = {"From": "1", "To": "100", "Gateways": SELF, "AnswerUrl": "http://application.test/answer/"}
        asked = [world.process.post("/v0.1/Call/", form) for _ in range(60)]
        await world.until(lambda: all(each.called for each in asked))
        world.lose("a")
        await world.passes(10)
        self.assertEqual(world.dialled(), 50)  # ten were recorded as the lost switch's, and wait for it
        world.find("a")
        await world.until(lambda: world.dialled() == 60)
        self.assertEqual([world.dialled(each) for each in world.names], [10, 50])
