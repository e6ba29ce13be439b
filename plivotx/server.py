"""One server, wired up: the circle and its edges, on whatever it is given.

`plivotx.service` gives it the real things, `plivotx.testing` those that live in memory.
"""

from collections.abc import Callable, Mapping
from uuid import uuid4

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from plivotx.commands import (
    ApiStep,
    At,
    FetchDocument,
    HangUp,
    Originate,
    PostCallback,
    Step,
    StopStep,
    Watch,
)
from plivotx.config import Config
from plivotx.engine import Engine
from plivotx.esl.connections import Switch
from plivotx.esl.dialstring import leg
from plivotx.events import CallRequested
from plivotx.handlers.http import Web
from plivotx.handlers.switch.board import Board
from plivotx.handlers.switch.dialling import Dialling, dial_line
from plivotx.handlers.switch.listening import Listening
from plivotx.handlers.switch.steps import Steps
from plivotx.handlers.switch.watching import Watching
from plivotx.handlers.timers import Timers
from plivotx.log.interface import Log
from plivotx.plugins import Plugins
from plivotx.policies.call_back import call_back
from plivotx.policies.dial_out import dial_out, originate
from plivotx.policies.keep_time import keep_time
from plivotx.policies.run_script import run_script
from plivotx.projections.call import Call
from plivotx.rest.app import Api


class Plivotx:
    """The server, without a socket of its own."""

    def __init__(
        self,
        config: Config,
        log: Log,
        switches: Mapping[str, Switch],
        agent: IAgent,
        clock: IReactorTime,
        plugins: Plugins,
        new_uuid: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self.switches = switches
        self.board = Board(switches, clock, config)
        dialling = Dialling(self.board)
        steps = Steps(self.board, dialling)
        watching = Watching(self.board, dialling, steps)
        listening = Listening(self.board, steps, watching)
        for switch in switches.values():
            switch.on_event, switch.on_up = listening.event, listening.up
        self._holders = (self.board, dialling, steps, watching)
        web = Web(agent, clock, config)
        timers = Timers(clock, self.board.remaining, self.board.when_known)
        self.engine = Engine(
            log,
            policies=[
                # before call_back, which closes the call once there is nothing more to be told
                run_script(plugins.verbs, plugins.session, config),
                call_back(plugins.callbacks, config),
                dial_out(config),
                keep_time(config),
            ],
            handlers={
                Originate: dialling.originate,
                Watch: watching.watch,
                Step: steps.step,
                StopStep: steps.stop_step,
                ApiStep: steps.api_step,
                HangUp: watching.hang_up,
                At: timers.at,
                PostCallback: web.post_callback,
                FetchDocument: web.fetch_document,
            },
            clock=clock,
        )
        self.board.attach(self.engine)
        self.api = Api(
            config,
            self.engine.request,
            carriable(config),
            new_uuid,
            log,
            self.engine.renew,
            self.engine.hang_up,
        )

    def idle(self) -> dict[str, int]:
        """What is held in memory: all zero when no call is open.  For tests and for metrics."""
        held = self.engine.idle()
        for each in self._holders:
            held |= each.idle()
        return held

    async def start(self) -> None:
        """Load the open calls and connect to the switches."""
        await self.engine.start()
        for switch in self.switches.values():
            switch.start()

    def stop(self) -> None:
        """Let go of everything; the calls go on by themselves, and with the next start."""
        for switch in self.switches.values():
            switch.stop()
        self.board.stop()
        self.engine.stop()


def carriable(config: Config) -> Callable[[CallRequested], None]:
    """A check that a request may be dialled, and can be exactly as asked: the very line to be sent is made.

    It raises ValueError with a sentence that begins with the name of the parameter.
    """

    def check(request: CallRequested) -> None:
        for gateway in request.gateways:
            refusal = config.may_dial(gateway.prefix, request.to_number)
            if refusal:
                raise ValueError(refusal)
        dial_line(originate(Call(request=request, version=1), 1, config))
        for gateway in request.gateways[1:]:  # the rest of their lines is the same
            leg(gateway.prefix, request.to_number, gateway.codecs)

    return check
