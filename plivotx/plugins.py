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
from types import ModuleType
from typing import Any
from zlib import crc32

import msgspec
import pluggy
from twisted.logger import Logger

from plivotx import hookspecs
from plivotx.config import Config
from plivotx.events import CallbackOwed, Pairs
from plivotx.projections.call import Call
from plivotx.restxml.script import MISTAKES, Verb, is_sound

log = Logger()

AT_START = (Exception, SystemExit, GeneratorExit)
"""The same as MISTAKES while plugins are loaded: the reactor does not run yet, and Ctrl-C is an exception still."""


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
    offers what is no verb or a verb that another file has.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    files: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise PluginError(f"{folder}: no such folder of plugins")
        for path in sorted(folder.resolve().glob("*.py")):
            _register(manager, path)
            files.append(str(path))
    # pluggy lists the latest registered last; callbacks are told in the order of the files.
    telling = [_answering(each, config, _is_owed) for each in manager.hook.callbacks.get_hookimpls()]
    adding = [_answering(each, config, _is_pair) for each in manager.hook.session.get_hookimpls()]

    def session(call: Call) -> Pairs:
        return tuple(pair for ask in adding for pair in ask(call))

    return Plugins(
        verbs=_verbs(manager.hook.verbs.get_hookimpls()),
        callbacks=tuple(telling),
        session=session,
        files=tuple(files),
    )


def _verbs(hooks: Sequence[pluggy.HookImpl]) -> dict[str, type[Verb]]:
    verbs: dict[str, type[Verb]] = {}
    for hook in hooks:
        path = hook.plugin_name
        try:
            offers: Any = hook.function()
            offered = tuple(offers)
        except AT_START as error:
            raise _refusal(path, error) from error
        for verb in offered:
            if not (isinstance(verb, type) and issubclass(verb, Verb)):
                raise PluginError(f"{_where(hook.function)}: {verb!r} is not a subclass of Verb")
            if verb.__name__ in verbs:
                other = _where(verbs[verb.__name__])
                raise PluginError(f"{_where(verb)}: the verb {verb.__name__} is there twice, also in {other}")
            try:
                msgspec.json.Decoder(verb)
            except Exception as error:  # annotations are evaluated here
                raise PluginError(f"{_where(verb)}: {verb.__name__}: {error}") from error
            verbs[verb.__name__] = verb
    return verbs


def _answering(
    hook: pluggy.HookImpl, config: Config, right: Callable[[Any], bool]
) -> Callable[[Call], tuple[Any, ...]]:
    """What asks a hook about a call; a hook that raises has answered nothing, and the call goes on."""
    function: Callable[..., Any] = hook.function
    if "config" in hook.argnames:
        function = partial(function, config=config)
    if "call" not in hook.argnames:
        function = partial(_without_call, function)

    def ask(call: Call) -> tuple[Any, ...]:
        try:
            answers = tuple(function(call=call))
            for each in answers:
                if not right(each):
                    raise TypeError(f"{hook.function.__name__} gives {each!r}")
        except MISTAKES:
            log.failure("plugin {name} raised", name=hook.plugin_name)
            return ()
        return answers

    return ask


def _without_call(function: Callable[..., Any], call: Call) -> Any:
    """Call one that does not want to know which call it is about."""
    del call
    return function()


def _is_owed(thing: Any) -> bool:
    """Whether it can go into the log, and is the same when that is read: else it would be owed again and again."""
    return type(thing) is CallbackOwed and is_sound(thing)


def _is_pair(thing: Any) -> bool:
    if not isinstance(thing, tuple) or len(thing) != 2:
        return False
    name, value = thing
    return isinstance(name, str) and isinstance(value, str) and _is_text(name + value)


def _is_text(text: str) -> bool:
    """Whether it can be sent and recorded; half a character (a lone surrogate) can not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _register(manager: pluggy.PluginManager, path: Path) -> None:
    # two folders may have files of one name
    name = f"plivotx_plugin_{path.stem}_{crc32(str(path).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that the classes defined there can be found by their module
    try:
        spec.loader.exec_module(module)
        manager.register(module, name=str(path))
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{_culprit(module, path)}: {error}") from error
    except AT_START as error:
        raise _refusal(str(path), error) from error


def _culprit(module: ModuleType, path: Path) -> str:
    """Where the first hook stands that does not fit its description, for pluggy does not tell the line."""
    for name, function in vars(module).items():
        if hasattr(function, f"{hookspecs.PROJECT}_impl"):
            described = getattr(hookspecs, name, None)
            known = inspect.signature(described).parameters if described else {}
            if not described or set(inspect.signature(function).parameters) - set(known):
                return _where(function)
    return str(path)


def _where(thing: Any) -> str:
    """File and line of a function or class."""
    try:
        return f"{inspect.getsourcefile(thing)}, line {inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):
        return str(thing)


def _refusal(path: str, error: BaseException) -> PluginError:
    """The error of a file, with the line of that file where it arose."""
    if isinstance(error, SyntaxError) and error.lineno:
        return PluginError(f"{error.filename}, line {error.lineno}: {error.msg}")
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == path]
    line = f", line {frames[-1].lineno}" if frames else ""
    return PluginError(f"{path}{line}: {type(error).__name__}: {error}")
