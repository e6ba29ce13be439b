"""What the world still owes a call: each policy says what is due now, from the call's state alone.

A policy is a callable ``due(call) -> commands``.  It keeps nothing, so after a restart there is no
second path: the same question is asked again.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from plivotx.commands import Command
from plivotx.projections.call import Call

Policy: TypeAlias = Callable[[Call], Iterable[Command]]
