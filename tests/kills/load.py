"""Play calls against a server that is killed: `python -m tests.kills.load CALLS=1000 KILLS=20 [SEED=0] [RATE=40]`.

Prints what was counted, and of each call that was lost or dialled twice its story.  Exits with 1 if
anything is wrong; then the log and the output of the server are kept.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import react

from tests.kills.checks import Verdict, judge, story
from tests.kills.world import Settings, World

STORIES = 5
"""Calls whose story is told; their like is usually the same story."""


async def play(settings: Settings, folder: Path) -> tuple[Verdict, str]:
    """Play it; gives the verdict, and everything worth printing."""
    world = World(settings, folder)
    try:
        await world.play()
        verdict = judge(world)
        return verdict, report(world, verdict)
    finally:
        await world.close()


def report(world: World, verdict: Verdict) -> str:
    """The table, the stories of what went wrong, and one line that says it all."""
    lines = []
    told = 0
    for kind in (verdict.lost, verdict.twice):
        for name, why in kind.items():
            lines.append(f"call {name} {why}")
            told += 1
            if told <= STORIES:
                lines += [story(world, name), ""]
    lines += verdict.wrong
    lines += [f"{name:<21} {value}" for name, value in verdict.counted.items()]
    lines.append(
        f"{world.killed} kills, {world.settings.calls} calls:"
        f" lost {len(verdict.lost)}, dialled twice {len(verdict.twice)}"
    )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Play with settings of the form NAME=NUMBER, say what came out, and exit."""
    given = {}
    for each in arguments:
        name, _, value = each.lower().partition("=")
        if name not in Settings.__struct_fields__ or not value.isdigit():
            print(
                "usage: script/kills [CALLS=1000] [KILLS=20] [SEED=0] [RATE=40]    RATE: calls begun in a second"
            )
            raise SystemExit(0 if each in ("-h", "--help") else 2)
        given[name] = int(value)
    settings = Settings(**given)
    folder = Path(tempfile.mkdtemp(prefix="plivotx-kills-"))

    async def run(_: Any) -> None:
        good, text = False, "it did not come to an end"
        try:
            verdict, text = await play(settings, folder)
            good = verdict.good
        finally:
            if good:
                shutil.rmtree(folder)
            else:
                print(f"the log and the output of the server are in {folder}")
        print(text)
        if not good:
            raise SystemExit(1)

    react(run)


if __name__ == "__main__":
    main(sys.argv[1:])
