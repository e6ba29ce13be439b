"""(a) Requests accepted per second, durable, beside a bare Klein handler with the same answer."""

from pathlib import Path

from benchmarks.measure import Line, Process, middle, module, progress, running, server

CLIENTS = (1, 16, 64)
ROUNDS = 5
SECONDS = 2.0
WANTED = 0.55


def run(folder: Path) -> list[Line]:
    """The lines of the table."""
    rates: dict[tuple[str, int], list[float]] = {}
    costs: dict[tuple[str, int], list[float]] = {}
    with running(module("bare"), folder, "bare", "listens on") as bare:
        for number in range(ROUNDS):
            progress(f"accept: round {number + 1} of {ROUNDS}")
            with server(folder) as ours:  # a new one, for the calls stay open: nobody is there to dial
                load(folder, ours.http_port, 16, 0.5)
                for clients in CLIENTS:
                    for name, process, port in (
                        ("bare", bare, bare.port()),
                        ("ours", ours, ours.http_port),
                    ):
                        rate, cost = _measure(folder, process, port, clients)
                        rates.setdefault((name, clients), []).append(rate)
                        costs.setdefault((name, clients), []).append(cost)
    lines = []
    for clients in CLIENTS:
        rate = {name: middle(rates[name, clients]) for name in ("ours", "bare")}
        ratio = middle([a / b for a, b in zip(rates["ours", clients], rates["bare", clients], strict=True)])
        cost = {name: middle(costs[name, clients]) * 1e6 for name in ("ours", "bare")}
        lines += [
            Line(
                f"(a) POSTs accepted, {clients} clients",
                f"{rate['ours']:,.0f}/s",
                f"bare Klein {rate['bare']:,.0f}/s",
                f"{ratio:.2f}",
                f">= {WANTED}" if clients > 1 else "",
            ),
            Line(
                f"(a) CPU of a POST, {clients} clients",
                f"{cost['ours']:,.0f} us",
                f"bare Klein {cost['bare']:,.0f} us",
                f"{cost['ours'] / cost['bare']:.2f}",
                "",
            ),
        ]
    return lines


def _measure(folder: Path, process: Process, port: int, clients: int) -> tuple[float, float]:
    """Requests accepted in a second, CPU seconds of each."""
    before = process.cpu()
    accepted, seconds = load(folder, port, clients, SECONDS)
    return accepted / seconds, (process.cpu() - before) / accepted


def load(folder: Path, port: int, clients: int, seconds: float) -> list[float]:
    """Post over so many connections for so long; gives how many were accepted, and in how many seconds."""
    return Process(module("load", port, clients, seconds), folder, "load", "").result()
