"""The recordings of a real FreeSWITCH that tests are held against.

A recording is a file NAME.jsonl of lines `{"t", "peer", "dir", "data"}`.  They are no part of this repository: they are
looked for in the directory named by the environment variable PLIVOTX_TRANSCRIPTS, else in `../shared/esl-transcripts`
beside the project.  Decorate a test case with `needs_transcripts` to skip it, with the reason, where there are none.
"""

import json
import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

_PROJECT = Path(__file__).resolve().parent.parent
_T = TypeVar("_T")


class Line(NamedTuple):
    """One send() or recv() of a recording; receive boundaries mean nothing."""

    t: float  # seconds from the start of the recording
    peer: str  # "inbound", "inbound:2" (client to the switch), "outbound:1" (the switch to us)
    dir: Literal["send", "recv"]  # "send": the client wrote it; "recv": FreeSWITCH did
    data: bytes  # empty, received: the end of the stream


def directory() -> Path:
    """Return where the recordings should be, whether they are there or not."""
    return Path(os.environ.get("PLIVOTX_TRANSCRIPTS") or _PROJECT.parent / "shared" / "esl-transcripts")


def transcripts() -> list[str]:
    """Return the names of all recordings, sorted; empty if there are none."""
    return sorted(path.stem for path in directory().glob("*.jsonl"))


def load(name: str) -> list[Line]:
    """Return the lines of one recording in their order of time."""
    with (directory() / f"{name}.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [Line(r["t"], r["peer"], r["dir"], r["data"].encode("latin-1")) for r in records]


def needs_transcripts(case: _T) -> _T:
    """Mark a test case or method to be skipped, saying why, where there are no recordings."""
    if not transcripts():
        case.skip = f"no recordings in {directory()}: set PLIVOTX_TRANSCRIPTS"  # type: ignore[attr-defined]
    return case
