"""Play seeds, and tell the story of one that failed."""

import sys
import time
import traceback
from collections import Counter

import msgspec
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.simulation.checks import complaints
from tests.simulation.world import SimulatedWorld


class Outcome(msgspec.Struct):
    """One seed."""

    seed: int
    calls: int
    seconds: float
    faults: dict[str, int]
    complaints: list[str]
    story: str = ""


class _Alarms:
    """What was logged as a failure of the program: never right, whatever the world does."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, event: dict) -> None:
        if event.get("log_level") is LogLevel.critical:
            failure = event.get("log_failure")
            self.heard.append(f"{formatEvent(event)}\n{failure.getTraceback() if failure else ''}")


def play(seed: int) -> Outcome:
    """Play one seed to its end."""
    alarms = _Alarms()
    globalLogPublisher.addObserver(alarms)
    world = SimulatedWorld(seed)
    try:
        world.play()
        wrong = complaints(world) + [f"the program failed: {each}" for each in alarms.heard]
    except Exception as error:
        wrong = [f"the simulation broke: {error!r}\n{traceback.format_exc()}"]
    finally:
        globalLogPublisher.removeObserver(alarms)
    outcome = Outcome(
        seed=seed,
        calls=len(world.disk.streams),
        seconds=world.clock.seconds(),
        faults=world.faults,
        complaints=wrong,
        story=story(world) if wrong else "",
    )
    world.end()
    return outcome


def story(world: SimulatedWorld) -> str:
    """Everything that happened, in order of time."""
    lines = [(at, "fault", what) for at, what in world.notes]
    lines += [(each.at, "POST", f"{each.params} -> {each.answer}") for each in world.asked]
    lines += [
        (each.at, "dialled", f"{each.uuid} {each.prefix}{each.destination}") for each in world.switch.dialled
    ]
    lines += [(each.at, "channel ended", f"{each.uuid} {each.cause}") for each in world.switch.ended]
    lines += [
        (
            each.at,
            "application",
            f"{each.path} {each.params.get('CallStatus')} {each.params.get('RequestUUID', '')[:8]}",
        )
        for each in world.application.received
    ]
    lines += [(at, "recorded", f"{each.stream[:8]} {each.event}") for at, each in world.recorded]
    lines += [(each.begin, "impaired", f"until {each.end:.3f}: {each.why}") for each in world.impaired]
    lines.sort(key=lambda line: line[0])
    return "\n".join(f"{at:10.3f}  {what:<14} {text}" for at, what, text in lines)


def main(seeds: int, first: int) -> int:
    """Play *seeds* seeds from *first*; 0 if all was well."""
    began = time.monotonic()
    calls = 0
    seconds = 0.0
    faults: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        outcome = play(seed)
        calls += outcome.calls
        seconds += outcome.seconds
        faults.update(outcome.faults)
        if outcome.complaints:
            print(outcome.story)
            print(f"\nseed {seed} failed:")
            for each in outcome.complaints:
                print(f"  {each}")
            print(f"\nTo play it again: script/simulate SEEDS=1 FROM={seed}")
            return 1
    print(f"{seeds} seeds from {first}: {calls} calls, {seconds / 3600:.1f} simulated hours, all well")
    print("faults: " + ", ".join(f"{count} {name}" for name, count in sorted(faults.items())))
    print(f"{time.monotonic() - began:.0f} s")
    return 0


def command(arguments: list[str]) -> int:
    """What `script/simulate` does with its arguments."""
    settings = {"SEEDS": "100", "FROM": "0", "BREAKAGES": "0"}
    for each in arguments:
        name, equals, value = each.partition("=")
        if name not in settings or not equals or not value.isdigit():
            print("usage: script/simulate [SEEDS=100] [FROM=0]    play so many seeds from that one")
            print("       script/simulate BREAKAGES=1             remove each mechanism, see it noticed")
            return 0 if each in ("-h", "--help") else 2
        settings[name] = value
    if settings["BREAKAGES"] != "0":
        from tests.simulation import breakages  # noqa: PLC0415 - it imports this module

        return breakages.main()
    return main(int(settings["SEEDS"]), int(settings["FROM"]))


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
