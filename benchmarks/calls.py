"""(b) Whole calls: accepted, rung, answered, a document with one step, hung up; their CPU beside that of the bare requests.

How many a second there are is measured in rounds of their own.  A call lasts some 1.6 s, and so 200 at once are never
more than 125 a second, however fast the server is.  There are more at once for the rate, and so many of them that
the beginning and the end, where fewer are under way, count little.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import (
    Line,
    Process,
    callers,
    emulator,
    free_port,
    middle,
    module,
    progress,
    running,
    server,
)

CALLS = 400
AT_ONCE = 200
ROUNDS = 5
RATE_CALLS = 1500
RATE_AT_ONCE = 600
RATE_ROUNDS = 3
WANTED = 2
WANTED_RATE = 150


def run(folder: Path) -> list[Line]:
    """The lines of the table."""
    costs: dict[str, list[float]] = {name: [] for name in ("ours", "agent", "treq", "emulator")}
    for number in range(ROUNDS):
        progress(f"calls: round {number + 1} of {ROUNDS}")
        with emulator(folder) as switch, server(folder, f"127.0.0.1:{switch.port()}") as ours:
            before = switch.cpu()
            _, cost = _measure(folder, ours, ours.http_port, free_port(), 1)
            costs["ours"].append(cost)
            costs["emulator"].append((switch.cpu() - before) / CALLS)
        for client in ("agent", "treq"):
            application = free_port()
            with running(module("bare", application, client), folder, "bare", "listens on") as bare:
                _, cost = _measure(folder, bare, bare.port(), application, 1)
                costs[client].append(cost)
    cost = {name: middle(values) * 1e3 for name, values in costs.items()}
    ratio = {
        client: middle([a / b for a, b in zip(costs["ours"], costs[client], strict=True)])
        for client in ("agent", "treq")
    }
    rates = [_rate(folder, number) for number in range(RATE_ROUNDS)]
    seconds, rounds, events = _in_due(folder)
    return [
        Line(
            "(b) CPU of a whole call",
            f"{cost['ours']:.2f} ms",
            f"its 4 HTTP exchanges, Klein and Twisted's agent {cost['agent']:.2f} ms",
            f"{ratio['agent']:.2f}",
            f"<= {WANTED}",
        ),
        Line(
            "(b) CPU of a whole call",
            f"{cost['ours']:.2f} ms",
            f"its 4 HTTP exchanges, Klein and treq {cost['treq']:.2f} ms",
            f"{ratio['treq']:.2f}",
            f"<= {WANTED}",
        ),
        Line(
            f"(b) whole calls, {RATE_AT_ONCE} at once",
            f"{middle(rates):,.0f}/s",
            f"by CPU alone {1000 / cost['ours']:,.0f}/s; the emulator {cost['emulator']:.2f} ms a call",
            "",
            f">= {WANTED_RATE}/s",
        ),
        Line(
            "(b) in `due`, per event",
            f"{seconds / events * 1e6:.0f} us",
            f"{events / CALLS:.1f} events a call, all policies asked {rounds / events:.2f} times an event",
            f"{seconds / CALLS * 1e3 / cost['ours']:.2f}",
            "",
        ),
    ]


def _measure(
    folder: Path, process: Process, port: int, application: int, seconds: int
) -> tuple[float, float]:
    """Calls a second, and CPU seconds of each."""
    before = process.cpu()
    with callers(folder, application, port, CALLS, AT_ONCE, seconds) as (rate, _):
        return rate, (process.cpu() - before) / CALLS


def _rate(folder: Path, number: int) -> float:
    """Calls a second."""
    progress(f"calls: {RATE_AT_ONCE} at once, round {number + 1} of {RATE_ROUNDS}")
    with (
        emulator(folder) as switch,
        server(folder, f"127.0.0.1:{switch.port()}") as ours,
        callers(folder, free_port(), ours.http_port, RATE_CALLS, RATE_AT_ONCE, 1) as (rate, _),
    ):
        return rate


def _in_due(folder: Path) -> Sequence[float]:
    progress("calls: with a clock on the policies")
    timed = module("timed")
    with emulator(folder) as switch, server(folder, f"127.0.0.1:{switch.port()}", twistd=timed) as process:
        _measure(folder, process, process.http_port, free_port(), 1)
    found = process.said().partition("in due: ")[2].split()[:3]
    return [float(each) for each in found]
