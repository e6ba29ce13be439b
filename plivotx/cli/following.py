"""Live views: what is new of one call, or of all of them, asked for again and again.

The pauses grow while nothing happens.  A server that cannot be reached is waited for, but not for ever.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from plivotx.cli.client import Client, Failed, Unreachable
from plivotx.states import LIVE

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 4.0
"""Seconds between two questions."""
GROWTH = 1.5
PATIENCE = 60.0
"""Seconds for which a server that cannot be reached is waited for."""
PAGE = "1000"
NEWEST = "100"
"""Calls that are looked at besides, so that those are seen which begin and end between two questions."""

_Answer = TypeVar("_Answer")


class Pauses:
    """How long to wait until the next question."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep
        self._next = FIRST_PAUSE

    def wait(self, *, anew: bool) -> float:
        """Wait; as short as at first if something happened (*anew*).  Returns the seconds."""
        waited = FIRST_PAUSE if anew else self._next
        self._sleep(waited)
        self._next = min(LONGEST_PAUSE, waited * GROWTH)
        return waited


class Following:
    """Follows what happens on a server; *remark* is told of what is no part of the view."""

    def __init__(self, client: Client, sleep: Callable[[float], None], remark: Callable[[str], None]) -> None:
        self._client = client
        self._sleep = sleep
        self._remark = remark

    def call(self, request_uuid: str) -> Iterator[dict[str, Any]]:
        """Where a call stands and its timeline, then what is new each time it has grown, until it is closed.

        Raises Failed (no such call), Denied, or Unreachable after `PATIENCE` seconds.
        """
        pauses = Pauses(self._sleep)
        known = 0
        while True:
            news = self._patiently(lambda known=known: self._client.news(request_uuid, known))  # type: ignore[misc]  # bound now
            version = _latest(news)
            if version > known:
                yield news
            if news.get("State") == "closed":
                return
            pauses.wait(anew=version > known)
            known = max(known, version)

    def record(self, request_uuid: str) -> dict[str, Any]:
        """What is on record of a call.  Raises what `call` does."""
        return self._patiently(lambda: self._client.record(request_uuid))

    def calls(self) -> Iterator[dict[str, Any]]:
        """Rows of calls, as the list has them: those that have not ended, and then each that changes.

        One that has ended comes as the list or its record has it.  This never ends by itself.
        """
        pauses = Pauses(self._sleep)
        shown = {
            uuid: _standing(each) for uuid, each in self._newest().items() if each.get("State") not in LIVE
        }
        while True:
            rows = self._newest()
            for state in LIVE:  # later than the page of the newest, and in this order: none slips through
                rows.update(self._all({"State": state, "Limit": PAGE}))
            for uuid in [each for each, (state, _) in shown.items() if state in LIVE and each not in rows]:
                rows.update(self._ended(uuid))
            fresh = [each for uuid, each in rows.items() if shown.get(uuid) != _standing(each)]
            yield from sorted(fresh, key=lambda each: str(each.get("Changed") or each.get("EndTime") or ""))
            shown = {uuid: _standing(each) for uuid, each in rows.items()}
            pauses.wait(anew=bool(fresh))

    def _newest(self) -> dict[str, dict[str, Any]]:
        page = self._patiently(lambda: self._client.get("/v0.1/Calls/", {"Limit": NEWEST}))
        return _by_name(page)

    def _all(self, wanted: dict[str, str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for page in pages(self._client, wanted, self._patiently):
            found.update(_by_name(page))
        return found

    def _ended(self, request_uuid: str) -> dict[str, dict[str, Any]]:
        """A call that is in no list any more; nothing if it was forgotten."""
        try:
            return {request_uuid: self.record(request_uuid)}
        except Failed:
            return {}

    def _patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """What *ask* gives, as soon as the server can be reached."""
        waited = 0.0
        pauses = Pauses(self._sleep)
        while True:
            try:
                answer = ask()
            except Unreachable as error:
                if waited >= PATIENCE:
                    raise
                if not waited:
                    self._remark(f"{error}; trying again for {PATIENCE:g} s")
                waited += pauses.wait(anew=False)
            else:
                if waited:
                    self._remark("it answers again")
                return answer


def pages(
    client: Client,
    wanted: dict[str, str],
    how: Callable[[Callable[[], dict[str, Any]]], dict[str, Any]] = lambda ask: ask(),
) -> Iterator[dict[str, Any]]:
    """One page of the list of calls after the other; *how* asks for each."""
    while True:
        page = how(lambda wanted=wanted: client.get("/v0.1/Calls/", wanted))  # type: ignore[misc]  # bound now
        yield page
        following = page.get("Next")
        if not isinstance(following, str) or following == wanted.get("After"):
            return
        wanted = {**wanted, "After": following}


def _latest(call: Mapping[str, Any]) -> int:
    """The version of the latest event in a timeline; 0 if it has none."""
    events = call.get("Timeline")
    versions = [each.get("Version") for each in events] if isinstance(events, list) else []
    return max((each for each in versions if isinstance(each, int)), default=0)


def _by_name(page: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {str(each.get("RequestUUID")): each for each in page.get("Calls", ())}


def _standing(call: Mapping[str, Any]) -> tuple[object, object]:
    """What of a call is worth a line when it changes; its end is, whether told already or not."""
    state = call.get("State")
    if state in LIVE:
        return state, call.get("Attempt")
    return "ended", call.get("HangupCause")
