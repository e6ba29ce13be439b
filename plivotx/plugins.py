"""Load plugins: the files that come with plivotx and an operator's own, by the same loader.

Looking happens at load time only; what the rest of the server gets are plain lists.  A plugin that
cannot be loaded stops the start.
"""

import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pluggy
from twisted.logger import Logger

from plivotx import hookspecs
from plivotx.config import Config
from plivotx.events import CallbackOwed, Pairs
from plivotx.projections.call import Call
from plivotx.restxml.script import Verb

log = Logger()


class PluginError(Exception):
    """A plugin cannot be loaded; says which file, where in it, and why."""


class Plugins(msgspec.Struct, frozen=True):
    """What all plugins together offer."""

    verbs: dict[str, type[Verb]]
    callbacks: tuple[Callable[[Call], Iterable[CallbackOwed]], ...]
    session: Callable[[Call], Pairs]
    files: tuple[str, ...]


def shipped() -> Path:
    """The folder with the plugins that plivotx is built out of: beside the package or where a wheel put it."""
    beside = Path(__file__).resolve().parent.parent / "plugins"
    if (beside / "callbacks_v01.py").is_file():
        return beside
    return Path(sysconfig.get_path("data")) / "share" / "plivotx" / "plugins"


def load(folders: Sequence[Path], config: Config) -> Plugins:
    """Load every ``*.py`` of *folders*, in order of name.

    Raises PluginError: a folder is missing, a file raises, implements a hook that does not exist, or
    names a verb that another file has.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    files: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise PluginError(f"{folder}: no such folder")
        for path in sorted(folder.glob("*.py")):
            _register(manager, path)
            files.append(str(path))
    verbs: dict[str, type[Verb]] = {}
    for found in manager.hook.verbs():
        for verb in found:
            if verb.__name__ in verbs:
                raise PluginError(f"{inspect.getfile(verb)}: the verb {verb.__name__} is there twice")
            verbs[verb.__name__] = verb
    # pluggy lists the latest registered last; callbacks are told in the order of the files.
    telling = tuple(manager.hook.callbacks.get_hookimpls())
    adding = tuple(manager.hook.session.get_hookimpls())

    def session(call: Call) -> Pairs:
        return tuple(pair for hook in adding for pair in _answers(hook, call=call))

    return Plugins(
        verbs=verbs,
        callbacks=tuple(partial(_told_by, hook, config) for hook in telling),
        session=session,
        files=tuple(files),
    )


def _told_by(hook: pluggy.HookImpl, config: Config, call: Call) -> Iterable[CallbackOwed]:
    answers: Iterable[CallbackOwed] = _answers(hook, call=call, config=config)
    return answers


def _answers(hook: pluggy.HookImpl, **offered: Any) -> tuple[Any, ...]:
    """What a hook answers to the arguments it asks for; nothing if it raises, and the call goes on."""
    try:
        answers: Any = hook.function(**{name: offered[name] for name in hook.argnames})
        return tuple(answers)
    except Exception:
        log.failure("plugin {name} raised", name=hook.plugin_name)
        return ()


def _register(manager: pluggy.PluginManager, path: Path) -> None:
    name = f"plivotx_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that the classes defined there can be found by their module
    try:
        spec.loader.exec_module(module)
        manager.register(module, name=str(path))
        manager.check_pending()
    except SyntaxError as error:
        raise PluginError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{path}: {error}") from error
    except Exception as error:
        frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise PluginError(f"{path}{line}: {type(error).__name__}: {error}") from error
