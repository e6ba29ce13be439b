"""To wait: the one place where a coroutine sleeps."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


def sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Fires after *seconds*; can be cancelled."""

    def wake_nobody(_: Deferred[None]) -> None:
        if timer.active():
            timer.cancel()

    awake: Deferred[None] = Deferred(wake_nobody)
    timer = clock.callLater(max(0.0, seconds), awake.callback, None)
    return awake
