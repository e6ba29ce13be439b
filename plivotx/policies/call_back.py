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
from plivotx.projections.call import Call

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
        known = {each.what.key for each in call.owed}
        for owed in (owed for each in tell for owed in each(call)):
            if owed.key not in known:
                yield Decide(stream=call.uuid, event=owed)
        earlier_were_tried = True
        for each in call.owed:
            if each.settled:
                continue
            if each.tries >= config.callback_tries:
                yield Decide(stream=call.uuid, event=CallbackGivenUp(key=each.what.key, why=each.why))
            elif each.tries or earlier_were_tried:
                yield PostCallback(
                    stream=call.uuid,
                    delivery=each.what.key,
                    attempt=each.tries + 1,
                    delay=backoff(
                        each.tries,
                        f"{call.uuid}/{each.what.key}",
                        config.callback_retry_delay,
                        config.callback_retry_longest,
                    ),
                    url=each.what.url,
                    method=each.what.method,
                    params=each.what.params,
                )
            earlier_were_tried = earlier_were_tried and each.tries > 0
        if call.ended and not call.closed and all(each.settled for each in call.owed):
            undelivered = sum(each.given_up for each in call.owed)
            closed = CallClosed(undelivered=undelivered, renewal=call.renewals)
            yield Decide(stream=call.uuid, event=closed)

    return due
