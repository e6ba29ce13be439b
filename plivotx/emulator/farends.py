"""The far ends: what the called party does is chosen by the number dialled, as in the lab's `farend` dialplan.

    1SS...  rings SS seconds, answers, stays          5D...   answers, sends the digits D... after 3 s, stays
    2SS...  early media, answers after it, stays      6...    answers, listens, stays
    3...    rings for ever                            7SS...  answers, hangs up after SS seconds
    404... 486... 503... 603...  refuse               9...    answers, a tone of 60 s, hangs up

Any other number is refused with NO_ROUTE_DESTINATION (orig_self_no_ext).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

REACTION = 0.02
"""Seconds until the first SIP reply arrives."""

_REFUSALS = {
    "486": "USER_BUSY",
    "603": "CALL_REJECTED",
    "503": "NORMAL_TEMPORARY_FAILURE",
    "404": "UNALLOCATED_NUMBER",
}


@dataclass(frozen=True)
class Step:
    """One thing a far end does."""

    after: float
    """Seconds after the step before; the first after the call reached it."""
    act: str
    """`trying`, `ring`, `early`, `answer`, `refuse`, `unreachable`, `bye`, `digits`, or what it sends from now on: `talk`,
    `hush` (audio, but silence), `mute` (no audio at all, as at the start)."""
    detail: str = ""
    """The cause, or the digits."""


Script = tuple[Step, ...]
Behaviour = Script | Callable[[str], Script]
"""What a gateway does: the same for each number, or by the number, asked anew at each attempt."""

SILENT: Script = ()
"""Never answers a SIP message."""
TRYING: Script = (Step(0, "trying"),)
"""Says 100 Trying, which FreeSWITCH shows nowhere, and then nothing more."""


def script(number: str) -> Script:
    """What the party with this number does."""
    if match := re.match(r"1(\d\d)\d*$", number, re.ASCII):
        return (Step(0, "ring"), Step(int(match[1]), "answer"))
    if match := re.match(r"2(\d\d)\d*$", number, re.ASCII):
        # three rounds of 300 ms a second: 0.9 s for each (orig_early_media)
        return (Step(0, "early"), Step(0, "talk"), Step(int(match[1]) * 0.9, "answer"), Step(0, "mute"))
    if match := re.match(r"(486|603|503|404)\d*$", number, re.ASCII):
        return (Step(0, "refuse", _REFUSALS[match[1]]),)
    if re.match(r"3\d*$", number, re.ASCII):
        return (Step(0, "ring"),)
    if match := re.match(r"5(\d+)$", number, re.ASCII):
        return (Step(0, "answer"), Step(3, "digits", match[1] + "@200"))
    if re.match(r"6\d*$", number, re.ASCII):
        return (Step(0, "answer"),)
    if match := re.match(r"7(\d\d)\d*$", number, re.ASCII):
        return (Step(0, "answer"), Step(int(match[1]), "bye", "NORMAL_CLEARING"))
    if re.match(r"9\d*$", number, re.ASCII):
        return (Step(0, "answer"), Step(0, "talk"), Step(60, "bye", "NORMAL_CLEARING"))
    return (Step(0, "refuse", "NO_ROUTE_DESTINATION"),)
