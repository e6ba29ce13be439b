"""The verbs that say where the script goes: Redirect, Notify and Hangup."""

from collections.abc import Iterable
from typing import Annotated

from plivotx.config import Config
from plivotx.hookspecs import hookimpl
from plivotx.restxml.attributes import about
from plivotx.restxml.script import Caller, Finish, Goto, Method, Steps, Tell, Verb, api, do
from plivotx.urls import complaint as url_complaint

MOST_SECONDS = 86_400
CAUSES = {"rejected": "CALL_REJECTED", "busy": "USER_BUSY"}


def _check_url(text: str) -> None:
    why = url_complaint(text)
    if why:
        raise ValueError(f"{text[:80]!r} {why}")


class Redirect(Verb, frozen=True, kw_only=True):
    """Go on with the document at another URL; what follows in this one is not run."""

    content = "the URL of the next document"

    method: Annotated[Method | None, about("how it is fetched")] = None

    def check(self, config: Config) -> None:
        """It must be a URL that can be requested."""
        del config
        _check_url(self.text)

    def run(self, call: Caller) -> Steps:
        """Nothing on the switch."""
        del call
        return Goto(self.text, self.method or "")
        yield


class Notify(Verb, frozen=True, kw_only=True):
    """Tell a URL, with the parameters of the call, and go on; the answer is ignored.

    The next verb runs when the first try has succeeded or failed.  One that failed is tried again in the
    background, and the call goes on.
    """

    content = "the URL to be told"

    method: Annotated[Method | None, about("how it is requested")] = None

    def check(self, config: Config) -> None:
        """It must be a URL that can be requested."""
        del config
        _check_url(self.text)

    def run(self, call: Caller) -> Steps:
        """One request."""
        del call
        yield from do(Tell(self.text, self.method or ""))
        return None


class Hangup(Verb, frozen=True, kw_only=True):
    """End the call.  Nothing after it is run; text inside is a remark.

    With *schedule* the call is ended that many seconds later, by the switch itself, and the document goes
    on; of several the latest counts.  The end of the document ends the call all the same.
    """

    reason: Annotated[
        str, about("`rejected` (CALL_REJECTED), `busy` (USER_BUSY), anything else: NORMAL_CLEARING")
    ] = ""
    schedule: Annotated[int, about("seconds; 0 or less: at once", le=MOST_SECONDS)] = 0

    def run(self, call: Caller) -> Steps:
        """A group of its own on the switch, so that limits stay when an earlier schedule is taken back."""
        cause = CAUSES.get(self.reason, "NORMAL_CLEARING")
        if self.schedule <= 0:
            return Finish(cause=cause, why=f"Hangup {self.text}".strip())
        group = f"plivotx-hangup-{call.channel}"
        yield from api("sched_del", group)
        yield from api("sched_api", f"+{self.schedule}", group, "uuid_kill", call.channel, cause)
        return None


@hookimpl
def verbs() -> Iterable[type[Verb]]:
    """Offer the verbs of this file."""
    return (Redirect, Notify, Hangup)
