"""Calls that were played on the emulator, in memory and in no time: what they leave in the log, what the switch says."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from unittest.mock import patch

from twisted.internet.defer import Deferred

from plivotx.esl.connections import Link
from plivotx.events import ChannelEnded, Event, StepStarted
from plivotx.testing import Answer, EmulatedWorld

T = TypeVar("T")


def _play(story: Callable[[EmulatedWorld], Awaitable[T]], seconds: int) -> T:
    """Play with a server whose application has its callers wait for so long."""
    world = EmulatedWorld()
    world.application.answers["answer"] = Answer(body=b"<Response><Wait length='%d'/></Response>" % seconds)
    told: list[T] = []
    world.start()
    Deferred.fromCoroutine(_told(story, world, told)).addErrback(lambda failure: failure.raiseException())
    world.end()
    return told[0]


async def _told(story: Callable[[EmulatedWorld], Awaitable[T]], world: EmulatedWorld, told: list[T]) -> None:
    told.append(await story(world))


def on_record() -> tuple[list[Event], list[Event]]:
    """The events of a call whose document is being run, and those of the same call once all is over."""

    async def story(world: EmulatedWorld) -> tuple[list[Event], list[Event]]:
        stream = await world.call("100", TimeLimit="3600", HangupOnRing="120")
        await world.recorded(stream, StepStarted)
        await world.passes(2)
        begun = world.events(stream)
        process = world.process
        assert process is not None
        (channel,) = await world.channels()
        world.switch.channels[channel].hangup("NORMAL_CLEARING")
        return begun, await world.closed(stream)

    return _play(story, 60)


def said_by_the_switch() -> bytes:
    """What comes over the connection for events from the ringing of a call to its end, one step included."""
    received: dict[Link, bytes] = {}

    def keep(link: Link, data: bytes) -> None:
        received[link] = received.get(link, b"") + data
        whole(link, data)

    async def story(world: EmulatedWorld) -> bytes:
        received.clear()
        stream = await world.call("100")
        await world.recorded(stream, ChannelEnded, 120)
        return next(each for each in received.values() if b"text/event-json" in each)

    whole = Link.dataReceived
    with patch.object(Link, "dataReceived", keep):
        return _play(story, 60)
