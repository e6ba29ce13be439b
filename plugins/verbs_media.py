"""The verbs that need nobody but the caller: Wait and Hangup."""

from collections.abc import Iterable
from typing import Annotated

from plivotx.hookspecs import hookimpl
from plivotx.restxml.attributes import about
from plivotx.restxml.script import Caller, Finish, Steps, Verb, execute

DAY = 86_400


class Wait(Verb, frozen=True, kw_only=True):
    """Wait *length* seconds.  Keys do not end it."""

    length: Annotated[int, about("seconds", ge=1, le=DAY)] = 1

    def run(self, call: Caller) -> Steps:
        """Play silence: unlike the application sleep, something can be mixed into it."""
        del call
        yield from execute("playback", f"silence_stream://{self.length * 1000}")
        return None


class Hangup(Verb, frozen=True, kw_only=True):
    """End the call.  *reason* is ``rejected``, ``busy``, or anything else for an ordinary end."""

    reason: str = ""
    schedule: Annotated[int, about("", le=0)] = 0
    """Hanging up later is not there yet: a value above 0 is refused."""

    def run(self, call: Caller) -> Steps:
        """No step: the call is hung up from outside the script."""
        del call
        cause = {"rejected": "CALL_REJECTED", "busy": "USER_BUSY"}.get(self.reason, "NORMAL_CLEARING")
        return Finish(cause=cause, why="Hangup")
        yield


@hookimpl
def verbs() -> Iterable[type[Verb]]:
    """Offer the verbs of this file."""
    return (Wait, Hangup)
