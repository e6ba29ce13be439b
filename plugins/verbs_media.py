"""The verbs that the caller hears and that hear the caller: Speak, Play, Wait, PreAnswer, GetDigits, Record."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from plivotx.config import Config
from plivotx.events import Pairs
from plivotx.hookspecs import hookimpl
from plivotx.restxml import sounds
from plivotx.restxml.attributes import about
from plivotx.restxml.script import (
    Again,
    Caller,
    Ended,
    Gone,
    Goto,
    Happening,
    Method,
    Part,
    Steps,
    Tell,
    Verb,
    api,
    do,
    execute,
    place,
)
from plivotx.urls import complaint as url_complaint

DAY = 86_400
MOST_ROUNDS = 10_000
AT_ONCE = 10
"""Copies of a sound that the switch is given in one go: it goes on with them while nobody is connected."""
MOST_IN_PROMPT = 100
"""Copies of one sound or text in a prompt, which is one command."""
MOST_CHARACTERS = 262_144
"""Of one command, as far as it consists of copies: 25 MB were made of a document of 250 KB, at each event of the call."""
PAUSE = f"{sounds.SILENCE}500"
KEYS = "0123456789*#ABCD"
NO_KEY = "none"
"""For the application: an empty list of finishing keys would be its default, `#` (tried on 1.10.12)."""
SILENCE_LEVEL = 500
"""What counts as silence in a recording; as v0.1 had it."""

SayType = Literal[
    "NUMBER",
    "ITEMS",
    "PERSONS",
    "MESSAGES",
    "CURRENCY",
    "TIME_MEASUREMENT",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_DATE_TIME",
    "TELEPHONE_NUMBER",
    "TELEPHONE_EXTENSION",
    "URL",
    "IP_ADDRESS",
    "EMAIL_ADDRESS",
    "POSTAL_ADDRESS",
    "ACCOUNT_NUMBER",
    "NAME_SPELLED",
    "NAME_PHONETIC",
    "SHORT_DATE_TIME",
]
SayMethod = Literal["PRONOUNCED", "ITERATED", "COUNTED"]


def _keys(text: str) -> str:
    """The keys of a telephone in *text*, each once."""
    return "".join(dict.fromkeys(each for each in text.upper() if each in KEYS))


def _copies(one: tuple[str, ...], wanted: int, room: int) -> tuple[str, ...]:
    """*one*, as often as *wanted* and as there is room for it in a command; once in any case."""
    return one * min(wanted, max(1, room // sum(len(each) + 1 for each in one)))


def _play(several: tuple[str, ...]) -> Part[Happening]:
    """Play sounds; no key ends it."""
    argument, delimiter = sounds.joined(several)
    variables = (("playback_terminators", "none"), ("playback_delimiter", delimiter), ("playback_ms", ""))
    return (yield from execute("playback", argument, ("playback_ms",), variables))


class Wait(Verb, frozen=True, kw_only=True):
    """Wait in silence.  Keys do not end it."""

    length: Annotated[int, about("seconds", ge=1, le=DAY)] = 1

    def run(self, call: Caller) -> Steps:
        """Play silence: unlike the application sleep, something can be mixed into it."""
        del call
        yield from _play(self.prompt(0))
        return None

    def prompt(self, room: int) -> tuple[str, ...]:
        """As a part of a prompt."""
        del room
        return (f"{sounds.SILENCE}{self.length * 1000}",)


class Play(Verb, frozen=True, kw_only=True):
    """Play a sound: a URL, a file on FreeSWITCH's host, or a stream such as `tone_stream://%(200,100,440)`.

    A relative name is looked up by FreeSWITCH among its sounds; a whole path must be in one of PLAY_FOLDERS
    or RECORD_FOLDERS.  Several, up to 100, are `file_string://ONE!ANOTHER`.  Keys do not end it.  If there is
    no such sound the next verb runs.
    """

    content = "a URL, a file or a stream"

    loop: Annotated[int, about("how often; 0: until the call ends", ge=0, le=MOST_ROUNDS, lenient=True)] = 1

    def check(self, config: Config) -> None:
        """It must be a sound that the configuration allows."""
        sounds.check(self.text, config)

    def run(self, call: Caller) -> Steps:
        """A few copies at a time, so that the caller hears on while nobody is connected to the switch."""
        parts = sounds.parts(self.text)
        at_once = len(_copies(parts, AT_ONCE, MOST_CHARACTERS)) // len(parts)
        left = (self.loop or MOST_ROUNDS) - (call.round * at_once if self.loop else 0)
        heard = yield from _play(parts * min(left, at_once))
        nothing = isinstance(heard, Ended) and "playback_ms" not in heard.vars
        if isinstance(heard, Gone) or nothing or (self.loop and left <= at_once):
            return None
        return Again()

    def prompt(self, room: int) -> tuple[str, ...]:
        """As a part of a prompt."""
        return _copies(sounds.parts(self.text), min(self.loop or MOST_IN_PROMPT, MOST_IN_PROMPT), room)


class Speak(Verb, frozen=True, kw_only=True):
    """Speak a text.  With *type* and *method* it is said in FreeSWITCH's own recorded words instead.

    The engine gets a long text in pieces of 1000 characters at most, cut where a sentence ends.
    """

    content = "the text to be spoken"

    voice: Annotated[str, about("voice of the engine")] = "slt"
    language: Annotated[str, about("with *type* and *method*: the language")] = "en"
    engine: Annotated[str, about("the module that speaks")] = "flite"
    loop: Annotated[int, about("how often; 0: until the call ends", ge=0, le=MOST_ROUNDS, lenient=True)] = 1
    type: Annotated[SayType | None, about("what the text is", lenient=True)] = None
    method: Annotated[SayMethod | None, about("how it is said", lenient=True)] = None

    def check(self, config: Config) -> None:
        """The names are words of the command, and must be words."""
        del config
        for name in ("voice", "language", "engine"):
            value = getattr(self, name)
            if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", value):
                raise ValueError(
                    f"attribute {name}={value[:80]!r} is wrong: it must be letters, digits and _ . : -"
                )

    @property
    def says(self) -> bool:
        """Whether recorded words are wanted."""
        return bool(self.type and self.method)

    def run(self, call: Caller) -> Steps:
        """One round each time."""
        variables = (("playback_terminators", "none"),)
        if self.says:
            heard = yield from execute(
                "say", f"{self.language} {self.type} {self.method} {self.text}", variables=variables
            )
            if isinstance(heard, Gone):
                return None
        else:
            for piece in sounds.pieces(self.text):
                heard = yield from execute(
                    "speak", f"{self.engine}|{self.voice}|{sounds.literal(piece)}", variables=variables
                )
                if isinstance(heard, Gone):
                    return None
        if call.round + 1 == self.loop:
            return None
        if not self.loop:
            yield from _play((PAUSE,))  # an engine that is not there says nothing, at once, for ever
        return Again()

    def prompt(self, room: int) -> Part[tuple[str, ...]]:
        """As a part of a prompt; which recorded words it takes only the switch knows."""
        one = tuple(map(sounds.spoken, sounds.pieces(self.text)))
        if self.says:
            said = yield from api(
                "say_string",
                f"{self.language}.wav",
                self.language,
                f"{self.type}",
                f"{self.method}",
                *self.text.split(),
            )
            reply = said.vars.get("reply", "")
            if isinstance(said, Gone) or said.failed or not reply.startswith("file_string://"):
                return ()
            one = sounds.parts(reply)
        return _copies(one, min(self.loop or MOST_IN_PROMPT, MOST_IN_PROMPT), room)


class PreAnswer(Verb, frozen=True, kw_only=True):
    """Run the verbs inside before the call is answered.  On a call that plivotx made it is answered already."""

    nests = ("Play", "Speak", "GetDigits", "Wait", "Redirect")

    def unfold(self) -> tuple[Verb, ...]:
        """The verbs inside, in the place of this one."""
        return tuple(verb for each in self.children for verb in each.unfold())


class GetDigits(Verb, frozen=True, kw_only=True):
    """Ask for digits: the verbs inside are the prompt, which a key interrupts.

    With digits the document at *action* takes the place of this one, with the parameter `Digits` (without
    the key that finished them).  Without *action*, and when nothing valid was pressed, the next verb runs.
    If the caller hangs up nothing is requested.  One voice speaks the whole prompt: that of its first Speak.
    """

    nests = ("Speak", "Play", "Wait")

    action: Annotated[str, about("URL to go on with; what is no URL counts as none")] = ""
    method: Annotated[Method | None, about("how *action* is fetched")] = None
    timeout: Annotated[int, about("seconds without a key that end the input", ge=1, le=DAY)] = 5
    finishOnKey: Annotated[str, about("keys that end the input; empty: none")] = "#"
    numDigits: Annotated[int, about("digits that end the input", ge=1, le=99, lenient=True)] = 99
    retries: Annotated[int, about("how often is asked in all", ge=1, le=100, lenient=True)] = 1
    playBeep: Annotated[bool, about("whether a tone follows the prompt")] = False
    validDigits: Annotated[str, about("keys that may be pressed")] = "0123456789*#"
    invalidDigitsSound: Annotated[str, about("played when others were pressed; as in Play")] = ""

    def check(self, config: Config) -> None:
        """There must be a key to be pressed, and the sound one that the configuration allows."""
        if not _keys(self.validDigits):
            raise ValueError(f"attribute validDigits={self.validDigits[:80]!r} is wrong: it names no key")
        if self.invalidDigitsSound:
            sounds.check(self.invalidDigitsSound, config)

    def run(self, call: Caller) -> Steps:
        """One application asks, listens and asks again; what was pressed stays on the channel."""
        del call
        prompt = yield from self._prompt()
        invalid = (
            sounds.parts(self.invalidDigitsSound) if self.invalidDigitsSound else (f"{sounds.SILENCE}150",)
        )
        everything, delimiter = sounds.joined([*prompt, *invalid])
        pieces = everything.split(delimiter)
        asking, wrong = delimiter.join(pieces[: len(prompt)]), delimiter.join(pieces[len(prompt) :])
        voice = next((each for each in self.children if isinstance(each, Speak)), Speak())
        valid = "|".join(re.escape(each) for each in _keys(self.validDigits))
        heard = yield from execute(
            "play_and_get_digits",
            f"1 {self.numDigits} {self.retries} {self.timeout * 1000} '{_keys(self.finishOnKey) or NO_KEY}'"
            f" '{sounds.literal('file_string://' + asking)}' '{sounds.literal(wrong)}' pagd_input"
            f" ^({valid})+$ {self.timeout * 1000}",
            ("pagd_input",),
            (
                ("playback_delimiter", delimiter),
                ("playback_terminators", "none"),
                ("tts_engine", voice.engine),
                ("tts_voice", voice.voice),
            ),
        )
        digits = heard.vars.get("pagd_input", "")
        if isinstance(heard, Gone) or not digits or not self.action or url_complaint(self.action):
            return None
        return Goto(self.action, self.method or "", (("Digits", digits),))

    def _prompt(self) -> Part[list[str]]:
        """The sounds that ask, in order."""
        prompt: list[str] = [f"{sounds.SILENCE}10", f"{sounds.SILENCE}10"]
        room = MOST_CHARACTERS // max(1, len(self.children))
        for each in self.children:
            if isinstance(each, Speak):
                prompt += yield from each.prompt(room)
            elif isinstance(each, Play | Wait):
                prompt += each.prompt(room)
        if self.playBeep:
            prompt.append(sounds.BEEP)
        return prompt


class Record(Verb, frozen=True, kw_only=True):
    """Record the caller into a file on FreeSWITCH's host, or with *bothLegs* the whole call from now on.

    *action* gets RecordingFileFormat, RecordingFilePath, RecordingFileName, RecordFile, RecordingDuration
    (milliseconds, -1 if not known) and Digits (the key that ended it).  It is requested once even if the caller
    hung up while it was recording; then what it answers is ignored.  The folder must be there and FreeSWITCH be
    allowed to write into it: if it can't open the file it hangs up the call (DESTINATION_OUT_OF_ORDER).
    With *bothLegs* the document goes on at once.
    """

    action: Annotated[str, about("URL that is told of it; what is no URL counts as none")] = ""
    method: Annotated[Method | None, about("how *action* is requested")] = None
    redirect: Annotated[bool, about("whether *action*'s document takes the place of this one")] = True
    maxLength: Annotated[int, about("longest recording, seconds", ge=1, le=DAY)] = 60
    timeout: Annotated[int, about("seconds of silence that end it; not with *bothLegs*", ge=1, le=DAY)] = 15
    finishOnKey: Annotated[str, about("keys that end it, empty: none; not with *bothLegs*")] = "1234567890*#"
    playBeep: Annotated[bool, about("whether a tone comes first; not with *bothLegs*")] = True
    filePath: Annotated[str, about("folder, one of RECORD_FOLDERS or within; empty: the first of them")] = ""
    fileFormat: Annotated[Literal["mp3", "wav"], about("how it is written")] = "mp3"
    fileName: Annotated[
        str, about("name without extension; empty: `YYYYmmdd-HHMMSS_CALLUUID_DOCUMENT-VERB`")
    ] = ""
    bothLegs: Annotated[bool, about("whether both sides are recorded, while the document goes on")] = False

    def check(self, config: Config) -> None:
        """The file must be one that the configuration allows."""
        sounds.recording(self.filePath, self.fileName, config)

    def run(self, call: Caller) -> Steps:
        """The name, the beep, the recording, and the application told."""
        folder, name = sounds.recording(self.filePath, self.fileName, call.config)
        if not name:
            time = yield from api("strftime", "%Y%m%d-%H%M%S")  # a verb has no clock, the switch has one
            if isinstance(time, Gone):
                return None
            # with the place of the verb, for two may begin in one second
            name = f"{time.vars.get('reply', '')}_{call.channel}_{place(time.key)}"
        file = f"{folder}{name}.{self.fileFormat}"
        about_it: Pairs = (
            ("RecordingFileFormat", self.fileFormat),
            ("RecordingFilePath", folder),
            ("RecordingFileName", name),
            ("RecordFile", file),
        )
        if self.bothLegs:
            yield from api("uuid_setvar", call.channel, "RECORD_STEREO", "true")
            begun = yield from api("uuid_record", call.channel, "start", file, f"{self.maxLength}")
            if isinstance(begun, Gone):
                return None
            return (
                yield from self._told((*about_it, ("RecordingDuration", "-1"), ("Digits", "")), gone=False)
            )
        if self.playBeep:
            beep = yield from _play((sounds.BEEP,))
            if isinstance(beep, Gone):
                return None
        heard = yield from execute(
            "record",
            f"{file} {self.maxLength} {SILENCE_LEVEL} {self.timeout}",
            ("record_ms", "playback_terminator_used"),
            (
                ("playback_terminators", _keys(self.finishOnKey) or "none"),
                ("playback_terminator_used", ""),
                ("record_ms", ""),
            ),
        )
        came_of_it = (
            ("RecordingDuration", heard.vars.get("record_ms", "-1")),
            ("Digits", heard.vars.get("playback_terminator_used", "")),
        )
        return (yield from self._told((*about_it, *came_of_it), gone=isinstance(heard, Gone)))

    def _told(self, params: Pairs, *, gone: bool) -> Steps:
        if not self.action or url_complaint(self.action):
            return None
        if self.redirect and not gone:
            return Goto(self.action, self.method or "", params)
        yield from do(Tell(self.action, self.method or "", params))
        return None


@hookimpl
def verbs() -> Iterable[type[Verb]]:
    """Offer the verbs of this file."""
    return (Speak, Play, Wait, PreAnswer, GetDigits, Record)
