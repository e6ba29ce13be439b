"""All that a plugin can add, on one page.  A plugin is a Python file with functions marked `hookimpl`."""

from collections.abc import Iterable

import pluggy

from plivotx.config import Config
from plivotx.events import CallbackOwed, Pairs
from plivotx.projections.call import Call
from plivotx.restxml.script import Verb

PROJECT = "plivotx"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def verbs() -> Iterable[type[Verb]]:
    """XML elements this plugin understands; the class name is the name of the element."""
    return ()


@hookspec
def callbacks(call: Call, config: Config) -> Iterable[CallbackOwed]:
    """What the application has come to have a right to know of *call*, in order; repeating is no harm."""
    del call, config
    return ()


@hookspec
def session(call: Call) -> Pairs:
    """Parameters that go with a request for a document; those of all plugins are sent."""
    del call
    return ()
