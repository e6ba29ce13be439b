"""Record the calls that are not there yet, on the emulator."""

import msgspec
from twisted.internet.defer import Deferred

from plivotx.testing import APPLICATION, Answer, EmulatedWorld
from tests.histories import CONFIG, FOLDER, replayed

TONE = "tone_stream://%(400,0,440)"
NEXT = f"{APPLICATION}/next/"
STORIES = {
    # name: number, parameters, AnswerUrl's document, the next one, seconds until plivotx dies (0: it does not)
    "verbs": (
        "9",
        {},
        f"<Wait/><Play loop='25'>{TONE}</Play><Speak loop='2'>hello</Speak><Hangup reason='busy'/>",
        "",
        0,
    ),
    "menu": (
        "512",
        {},
        f"<GetDigits action='{NEXT}' timeout='4'><Speak>press</Speak></GetDigits>",
        "<Wait/>",
        0,
    ),
    "menu-killed": (
        "512",
        {},
        f"<GetDigits action='{NEXT}' timeout='4'/><Wait/>",
        f"<Play>{TONE}</Play>",
        1.5,
    ),
    "voicemail": ("703", {}, f"<Record action='{NEXT}' fileName='mine'/>", "<Wait/>", 0),
    "recorded": ("9", {}, f"<Record action='{NEXT}' redirect='false' maxLength='2'/><Wait/>", "", 1.5),
    "notices": ("100", {}, f"<Notify>{NEXT}</Notify><Hangup schedule='3'/><Wait length='9'/>", "", 0),
    "limit": ("101", {"TimeLimit": "3"}, f"<Play loop='0'>{TONE}</Play>", "", 0),
    "broken": ("100", {}, "<Wait/><Dance/>", "", 0),
}


async def record(name: str) -> None:
    to, params, document, following, dies = STORIES[name]
    world = EmulatedWorld(CONFIG)
    world.start()
    for path, content in (("answer", document), ("next", following)):
        world.application.answers[path] = Answer(body=f"<Response>{content}</Response>".encode())
    call = await world.call(to, **params)
    if dies:
        await world.told("answer")
        await world.passes(dies)
        world.kill()
        await world.passes(1)
        world.start()
    lines = list(replayed(await world.closed(call)))
    world.end()
    (FOLDER / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
    print(f"{name}: {len(lines)} events")


def main() -> None:
    for name in STORIES:
        if not (FOLDER / f"{name}.jsonl").exists():
            Deferred.fromCoroutine(record(name)).addErrback(lambda failure: failure.printTraceback())


main()
