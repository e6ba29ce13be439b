"""Callbacks: what is owed to the application is delivered, or given up after so many tries.

First tries go out in the order in which the callbacks came to be owed; a retry never holds up a later
callback.  When nothing is left to be told of an ended call, the call is closed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from zlib import crc32

from plivotx.commands import Command, Decide, PostCallback
from plivotx.config import Config
from plivotx.events import CallbackGivenUp, CallbackOwed, CallClosed
from plivotx.policies import Policy
from plivotx.projections.call import Call, Owed

MOST_RETRIED = 20
"""Callbacks of one call that are tried again at the same time, the latest: a document may owe a thousand, and at each
event of the call all that are due are asked for."""

Tell = Callable[[Call], Iterable[CallbackOwed]]


def backoff(failures: int, key: str, base: float, longest: float) -> float:
    """Seconds before the next try: doubled each time, spread by a quarter either way by a hash of *key*."""
    if not failures:
        return 0.0
    spread = 0.75 + 0.5 * (crc32(f"{key}/{failures}".encode()) / 0xFFFFFFFF)
    doubled = 2 ** min(failures - 1, 1000)  # beyond, it is no float any more
    return float(min(longest, base * doubled) * spread)


def call_back(tell: Sequence[Tell], config: Config) -> Policy:
    """The policy; each of *tell* names the callbacks that a call has come to owe, in order."""

    def due(call: Call) -> Iterator[Command]:
        for telling in tell:
            for owed in telling(call):
                if owed.key not in [known.what.key for known in call.owed]:
                    yield Decide(stream=call.uuid, event=owed)
        unsettled = [each for each in call.owed if not each.settled]
        if unsettled:
            yield from _tries(call, unsettled)
        elif call.ended and not call.closed:
            undelivered = sum(each.given_up for each in call.owed)
            closed = CallClosed(undelivered=undelivered, renewal=call.renewals)
            yield Decide(stream=call.uuid, event=closed)

    def _tries(call: Call, unsettled: list[Owed]) -> Iterator[Command]:
        failing = [each for each in unsettled if each.tries][-MOST_RETRIED:]
        for each in failing:
            if each.tries >= config.callback_tries:
                yield Decide(stream=call.uuid, event=CallbackGivenUp(key=each.what.key, why=each.why))
            else:
                yield _try(call, each)
        for each in unsettled:
            if not each.tries:
                yield _try(call, each)
                break

    def _try(call: Call, owed: Owed) -> Command:
        return PostCallback(
            stream=call.uuid,
            delivery=owed.what.key,
            attempt=owed.tries + 1,
            delay=backoff(
                owed.tries,
                f"{call.uuid}/{owed.what.key}",
                config.callback_retry_delay,
                config.callback_retry_longest,
            ),
            url=owed.what.url,
            method=owed.what.method,
            params=owed.what.params,
        )

    return due
