"""`twistd` with a clock on the policies; at its end it says how much CPU they took, and for how many events."""

import sys
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.scripts.twistd import run

from plivotx.engine import Due, Engine
from plivotx.log.interface import Recorded
from plivotx.projections.call import Call

reactor: Any = installed
SPENT = {"seconds": 0.0, "rounds": 0, "events": 0}


def main() -> None:
    """Put the clock on, and run."""
    due, deliver = Engine._due, Engine._deliver  # noqa: SLF001 - the circle itself is to be measured

    def timed(engine: Engine, call: Call, *, deciding: bool = False) -> Due:
        began = time.thread_time()
        found = due(engine, call, deciding=deciding)
        SPENT["seconds"] += time.thread_time() - began
        SPENT["rounds"] += 1
        return found

    def counted(engine: Engine, recorded: Recorded) -> None:
        SPENT["events"] += 1
        deliver(engine, recorded)

    Engine._due, Engine._deliver = timed, counted  # type: ignore[method-assign] # noqa: SLF001 - as above
    reactor.addSystemEventTrigger("after", "shutdown", tell)
    run()


def tell() -> None:
    """Say it; what is printed would go into the log."""
    print("in due:", *SPENT.values(), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
