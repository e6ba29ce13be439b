"""What a document may name to be played or recorded, and the form in which the switch is told.

A name goes to FreeSWITCH as it stands: `playback` understands ``say:``, ``{...}`` and local paths of every
kind, so only what is known to be a sound passes.  A URL is played as it is given, by mod_httapi, which
knows http and https, wav and mp3, and keeps what it fetched (tried on 1.10.12); v0.1 turned all but .wav
into shout://, and lost the s of https.
"""

import posixpath
import re
from collections.abc import Sequence

from plivotx import urls
from plivotx.config import Config

DELIMITERS = "!~^"
"""One of these stands between the parts of what is played in one go: one that is in none of them."""
MOST_ITEMS = 100
"""Items of one file_string: all of them are written into one command, as often as the sound is played."""
MOST_SPOKEN = 1000
"""Characters that an engine is given at once.  flite took 65 KB of memory for each of them, all before the first was
heard, and was not to be broken off: 20,000 took 1.3 GB, and the channel stayed for 18 s after its hangup (1.10.12)."""
MOST_UNBROKEN = 100
"""Characters without a blank that an engine is given.  400 dots, 600 emoji or 1000 accented letters in a row ended
FreeSWITCH with all its calls: flite goes through a word recursively, and the stack of a channel is small (1.10.12)."""
SILENCE = "silence_stream://"
BEEP = "tone_stream://%(300,200,700)"

_FILE = re.compile(r"[\w./ @%+=,()~-]+")
_STREAMS = re.compile(
    r"tone_stream://(?!.*path=)[\w%(),.;=+*/ -]+|silence_stream://-?[0-9]{1,9}(?:,[0-9]{1,9})?"
    r"|local_stream://(?!.*\.\.)[\w./-]+|shout://[!-~]+"
)
_KIND = re.compile(r"(?i)\.(?:\w*_(?:stream|string)|vlc|https?|shout)$")
"""Endings that have FreeSWITCH take a name for a stream of that kind: `x.tone_stream` was one; tried."""
_UNBROKEN = re.compile(rf"\S{{{MOST_UNBROKEN}}}(?=\S)")
_NOT_IN_COMMANDS = re.compile(r"[\s'\"\\^`$|{}]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=,-]{0,199}")
_FOLDER = re.compile(r"/[A-Za-z0-9_.@/-]{0,400}")


def check(place: str, config: Config) -> None:
    """Raise ValueError if *place* is nothing that a document may play; the sentence says what is wrong."""
    shown = place if len(place) <= 80 else place[:77] + "..."
    if place.startswith(("http://", "https://")):
        why = urls.complaint(place)
        if not why and _NOT_IN_COMMANDS.search(place):
            why = "holds one of ' \" \\ ^ ` $ | { }; percent-encode it"
        if why:
            raise ValueError(f"{shown!r} {why}")
    elif place.startswith("file_string://"):
        items = parts(place)
        if len(items) > MOST_ITEMS:
            raise ValueError(
                f"{shown!r} has {len(items)} items; {MOST_ITEMS} is all that is played in one go"
            )
        for each in items:
            if each.startswith("file_string://"):
                raise ValueError(f"{shown!r} holds another file_string")
            check(each, config)
    elif "://" in place:
        if not _STREAMS.fullmatch(place) or (place.startswith("shout") and _NOT_IN_COMMANDS.search(place)):
            raise ValueError(
                f"{shown!r} is no tone_stream, silence_stream, local_stream, shout, http or https"
            )
    elif _KIND.search(place):
        raise ValueError(f"{shown!r} has the ending of a stream, not of a sound")
    elif not _FILE.fullmatch(place) or ".." in place.split("/"):
        raise ValueError(f"{shown!r} is no name of a sound: letters, digits and . / _ - @ % + = , ( ) ~")
    elif place.startswith("/") and not _within(place, (*config.play_folders, *config.record_folders)):
        raise ValueError(f"{shown!r} is in none of PLAY_FOLDERS and RECORD_FOLDERS")


def parts(place: str) -> tuple[str, ...]:
    """What is played for *place*: itself, or the items of a file_string."""
    if place.startswith("file_string://"):
        return tuple(place.removeprefix("file_string://").split("!"))
    return (place,)


def joined(several: Sequence[str]) -> tuple[str, str]:
    """*several* sounds as one argument, and the delimiter between them, which is empty if there is but one."""
    if len(several) == 1:
        return several[0], ""
    delimiter = next(
        (each for each in DELIMITERS if not any(each in part for part in several)), DELIMITERS[-1]
    )
    return delimiter.join(each.replace(delimiter, " ") for each in several), delimiter


def pieces(text: str) -> tuple[str, ...]:
    """A text to be spoken, cut where a sentence or a word ends so that no piece is too much for an engine."""
    text = _UNBROKEN.sub(r"\g<0> ", text)
    found = []
    start = 0
    while len(text) - start > MOST_SPOKEN:
        most = start + MOST_SPOKEN
        sentence = max(text.rfind(end, start, most) for end in (". ", "! ", "? "))
        cut = sentence + 1 if sentence >= 0 else text.rfind(" ", start + 1, most)
        cut = cut if cut > start else most
        found.append(text[start:cut])
        start = cut + 1 if text[cut] == " " else cut
    return (*found, text[start:])


def spoken(text: str) -> str:
    """A text to be spoken in between sounds; what is no speech there becomes a blank."""
    return "say:" + literal(re.sub(r"[\\^\x00-\x1f]", " ", text))


def literal(text: str) -> str:
    """The form of a text that FreeSWITCH splits once more, where a pair of apostrophes quotes and disappears.

    Tried on 1.10.12: ``We're sorry, it's closed`` was spoken as ``Were sorry, its closed``, and in a prompt the
    sound between two such texts was read out by its name.
    """
    return text.replace("\\", "\\\\").replace("'", "\\'")


def recording(folder: str, name: str, config: Config) -> tuple[str, str]:
    """The folder, with a slash at its end, and the name for a recording; raises ValueError for what is not allowed."""
    if not config.record_folders:
        raise ValueError("RECORD_FOLDERS is empty: nothing may be recorded")
    where = posixpath.normpath(folder) if folder else config.record_folders[0]
    if not _FOLDER.fullmatch(where) or where.startswith("//") or not _within(where, config.record_folders):
        raise ValueError(f"filePath {folder[:80]!r} is in none of RECORD_FOLDERS")
    if name and not _NAME.fullmatch(name):
        raise ValueError(f"fileName {name[:80]!r} may hold letters, digits and . _ - @ + = , only")
    return where.rstrip("/") + "/", name


def _within(path: str, folders: Sequence[str]) -> bool:
    normal = posixpath.normpath(path)
    return any(normal == each or normal.startswith(each.rstrip("/") + "/") for each in folders)
