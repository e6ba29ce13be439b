"""To wait, and to wait no longer than one should: the one place where a coroutine sleeps."""

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")


def sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Fires after *seconds*; can be cancelled."""
    awake = _Sleep(_wake_nobody)
    awake.timer = clock.callLater(max(0.0, seconds), awake.callback, None)
    return awake


class _Sleep(Deferred[None]):
    """It knows its timer, so that no function of its own is needed to cancel that: there are many thousands."""

    timer: IDelayedCall


def _wake_nobody(sleeper: Deferred[None]) -> None:
    assert isinstance(sleeper, _Sleep)
    if sleeper.timer.active():
        sleeper.timer.cancel()


async def within(clock: IReactorTime, seconds: float, work: "Deferred[T]", why: str) -> T:
    """What *work* comes to; after *seconds* it is cancelled, which raises TimeoutError(*why*)."""
    timer = clock.callLater(seconds, work.cancel)
    try:
        return await work
    except Exception:
        if not timer.active():  # it was cancelled, for which everybody has words of his own
            raise TimeoutError(why)
        raise
    finally:
        if timer.active():
            timer.cancel()
