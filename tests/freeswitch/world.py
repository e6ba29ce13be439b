"""A world whose switch is a real FreeSWITCH and whose time is real."""

import os
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from plivotx.config import Config, split_address
from plivotx.esl.connections import Link, Switch
from plivotx.esl.session import Headers
from plivotx.esl.translate import now, text
from plivotx.testing import World

ADDRESS = os.environ.get("PLIVOTX_FREESWITCH", "")
PASSWORD = os.environ.get("PLIVOTX_FREESWITCH_PASSWORD", "ClueCon")
SKIP = "" if ADDRESS else "PLIVOTX_FREESWITCH does not name the event socket of a FreeSWITCH"


class RealWorld(World):
    def __init__(self, config: Config | None = None) -> None:
        super().__init__(reactor, config or Config(fs_inbound_password=PASSWORD))
        # A second observer, which lives on when the server is killed.
        self.observer = Switch("observer", self.endpoint(), PASSWORD, reactor, Random(1).random)
        self.observer.start()
        self.digits: list[Headers] = []
        """The DTMF events of all channels: those of far ends have no UUID of ours."""
        self._listening: Link | None = None

    async def listen(self) -> None:
        """Hear what digits reach the far ends; the observer's filters keep their channels out."""

        def happened(event: Headers) -> None:
            self.digits.append(event)

        link = await self.endpoint().connect(Factory.forProtocol(lambda: Link(PASSWORD, reactor, happened)))
        await link.authenticated
        await link.ask(lambda session: session.events_json(["DTMF"]))
        self._listening = link

    async def heard(self, stream: str) -> list[tuple[str, int]]:
        del stream  # one call at a time is made in a story that asks this
        return [
            (text(each, "DTMF-Digit"), now(each))
            for each in self.digits
            if text(each, "Unique-ID")[14] != "5"
        ]

    async def variable(self, channel: str, name: str) -> str:
        return (await self.observer.api(f"uuid_getvar {channel} {name}")).text.removesuffix("\n")

    def endpoint(self) -> IStreamClientEndpoint:
        host, port = split_address(ADDRESS)
        return HostnameEndpoint(reactor, host, port)

    async def channels(self) -> list[str]:
        await self.observer.when_up()
        await self.passes(0.5)  # the list lags behind (measured: 0.3 s)
        reply = await self.observer.api("show channels as json")
        rows = msgspec.json.decode(reply.text).get("rows", [])
        return [each["uuid"] for each in rows if each["uuid"][14] == "5"]

    async def until(self, happened: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
        end = reactor.seconds() + seconds
        while not (result := happened()):
            if reactor.seconds() >= end:
                raise AssertionError(
                    f"{what or happened} did not happen within {seconds:g} s\n{self.story()}"
                )
            await self.passes(0.01)
        return result

    async def passes(self, seconds: float) -> None:
        await deferLater(reactor, seconds)
        if self.process:
            self.process.web.flush()

    async def leave(self) -> None:
        """Leave nothing running, and the switch as it was found."""
        self.end()
        if self._listening:
            self._listening.abort("the story is over")
        await self.observer.when_up()
        await self.observer.api("hupall NORMAL_CLEARING plivo_app true")
        await self.passes(0.2)
        self.observer.stop()
        await self.passes(0.2)
