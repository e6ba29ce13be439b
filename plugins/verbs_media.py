"""The verbs that need nobody but the caller: Wait and Hangup."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from plivotx.hookspecs import hookimpl
from plivotx.restxml.script import Finish, Steps, Verb, execute

DAY = 86_400


class Wait(Verb, frozen=True, kw_only=True):
    """Wait *length* seconds.  Keys do not end it."""

    length: Annotated[int, Meta(ge=1, le=DAY)] = 1

    def run(self) -> Steps:
        """Play silence: unlike the application sleep, something can be mixed into it."""
        yield from execute("playback", f"silence_stream://{self.length * 1000}")
        return None


class Hangup(Verb, frozen=True, kw_only=True):
    """End the call.  *reason* is ``rejected``, ``busy``, or anything else for an ordinary end."""

    reason: str = ""
    schedule: Annotated[int, Meta(le=0)] = 0
    """Hanging up later is not there yet: a value above 0 is refused."""

    def run(self) -> Steps:
        """No step: the call is hung up from outside the script."""
        cause = {"rejected": "CALL_REJECTED", "busy": "USER_BUSY"}.get(self.reason, "NORMAL_CLEARING")
        return Finish(cause=cause, why="Hangup")
        yield


@hookimpl
def verbs() -> Iterable[type[Verb]]:
    """Offer the verbs of this file."""
    return (Wait, Hangup)
