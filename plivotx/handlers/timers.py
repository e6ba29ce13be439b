"""Waiting: `callLater` only means "look again"; what counts is the clock of the switch.

The reactor that is handed in must run on a monotonic clock (`plivotx.service` sees to that): a step of
the wall clock is not the passing of time.
"""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from plivotx.commands import At
from plivotx.engine import Ticket
from plivotx.events import Event, LimitReached
from plivotx.waiting import sleep

LOOK_AGAIN = 60.0
"""Seconds: two clocks may drift that long before they are compared again."""
LOOK_SOON = 0.5
"""Seconds: else half of what is left, for what is known of the switch's clock at first (whole seconds, by which
a limit would come late) is soon known better."""


class Timers:
    """Does `At`: records that a limit is reached once the switch's clock says so."""

    def __init__(
        self,
        clock: IReactorTime,
        remaining: Callable[[str, int], float | None],
        when_known: Callable[[str], Deferred[None]],
    ) -> None:
        self._clock = clock
        self._remaining = remaining
        self._when_known = when_known

    async def at(self, command: At, ticket: Ticket) -> Sequence[Event]:
        """Wait, then decide that the limit is reached."""
        del ticket
        while True:
            left = self._remaining(command.switch, command.when)
            if left is None:
                await self._when_known(command.switch)
            elif left > 0:
                await sleep(self._clock, min(left, max(left / 2, LOOK_SOON), LOOK_AGAIN))
            else:
                return (LimitReached(limit=command.limit, cause=command.cause),)
