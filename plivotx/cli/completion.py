"""Completion for shells, made of the parser itself: ``plivotx completion bash`` prints a script."""

import argparse
import re
from collections.abc import Iterator

import msgspec

FILES = "FILE"
"""Metavar of what is the name of a file."""
FOLDERS = "FOLDER"


class Option(msgspec.Struct, frozen=True):
    """An option or argument of a command, as shells and pages show it."""

    names: tuple[str, ...]
    """Of an option; an argument has none."""
    value: str
    """What it takes; empty for nothing."""
    choices: tuple[str, ...]
    meaning: str
    required: bool


class Command(msgspec.Struct, frozen=True):
    """A command and all that may be said with it."""

    name: str
    meaning: str
    options: tuple[Option, ...]


def commands(parser: argparse.ArgumentParser) -> list[Command]:
    """The commands of *parser*, in order."""
    (made,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]  # noqa: SLF001 - argparse shows them nowhere else
    meanings = {each.dest: each.help or "" for each in made._choices_actions}  # noqa: SLF001 - the same
    return [Command(name, meanings[name], tuple(_options(each))) for name, each in made.choices.items()]


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for each in parser._actions:  # noqa: SLF001 - the same
        takes = each.nargs != 0
        value = str(each.metavar or (each.dest.upper() if not each.choices else "")) if takes else ""
        yield Option(
            names=tuple(each.option_strings),
            value=value if takes else "",
            choices=tuple(map(str, each.choices or ())),
            meaning=each.help or "",
            required=each.required,
        )


# -- bash ------------------------------------------------------------------------------------------


def bash(program: str, parser: argparse.ArgumentParser) -> str:
    """The script for bash: ``eval "$(plivotx completion bash)"``."""
    found = commands(parser)
    after = [line for each in found for line in _bash_values(each)]
    words = [f"        {each.name}) words={_quoted(' '.join(_words(each)))} ;;" for each in found]
    function = f"_{program}"
    return "\n".join(
        (
            f"# bash completion for {program}",
            f"{function}() {{",
            "    local cur=${COMP_WORDS[COMP_CWORD]} prev= command= words=",
            "    COMPREPLY=()",
            '    if [ "$COMP_CWORD" -gt 0 ]; then prev=${COMP_WORDS[COMP_CWORD-1]}; fi',
            '    if [ "$COMP_CWORD" -gt 1 ]; then command=${COMP_WORDS[1]}; fi',
            '    case "$command $prev" in',
            *after,
            "    esac",
            '    case "$command" in',
            f"        '') words={_quoted(' '.join(['--help', '--version', *(each.name for each in found)]))} ;;",
            *words,
            "    esac",
            *_bash_files(found),
            '    COMPREPLY=($(compgen -W "$words" -- "$cur"))',
            "}",
            f"complete -F {function} {program}",
            "",
        )
    )


def _words(command: Command) -> list[str]:
    """What may begin a word: the options, and the values of the arguments that are limited to some."""
    return [
        *(name for each in command.options for name in each.names if name.startswith("--")),
        *(choice for each in command.options if not each.names for choice in each.choices),
    ]


def _bash_values(command: Command) -> Iterator[str]:
    """What may follow an option that takes a value."""
    for each in command.options:
        if not (each.names and each.value) and not (each.names and each.choices):
            continue
        pattern = "|".join(_quoted(f"{command.name} {name}") for name in each.names)
        if each.choices:
            does = f'COMPREPLY=($(compgen -W {_quoted(" ".join(each.choices))} -- "$cur"))'
        elif each.value.startswith((FILES, FOLDERS)):
            does = f'COMPREPLY=($(compgen -{"d" if each.value == FOLDERS else "f"} -- "$cur"))'
        else:
            does = ":"  # anything: nothing to offer
        yield f"        {pattern}) {does}; return ;;"


def _bash_files(found: list[Command]) -> Iterator[str]:
    """Commands whose argument is a file."""
    names = [
        each.name
        for each in found
        if any(not option.names and option.value.startswith(FILES) for option in each.options)
    ]
    if names:
        yield f'    if [[ " {" ".join(names)} " == *" $command "* && $cur != -* ]]; then'
        yield '        COMPREPLY=($(compgen -f -- "$cur")); return'
        yield "    fi"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# -- zsh -------------------------------------------------------------------------------------------


def zsh(program: str, parser: argparse.ArgumentParser) -> str:
    """The script for zsh, to be put as ``_plivotx`` into a folder of ``$fpath``."""
    found = commands(parser)
    lines = [
        f"#compdef {program}",
        f"_{program}() {{",
        "    local -a commands",
        "    commands=(",
        *(f"        {_quoted(f'{each.name}:{_plain(each.meaning)}')}" for each in found),
        "    )",
        "    if (( CURRENT == 2 )); then",
        f"        _describe 'command of {program}' commands",
        "        return",
        "    fi",
        "    local command=$words[2]",
        "    shift words",
        "    (( CURRENT-- ))",
        "    case $command in",
    ]
    for each in found:
        specs = [spec for option in each.options for spec in _zsh_specs(option)]
        lines.append(f"        {each.name})")
        lines.append("            _arguments \\")
        lines += [f"                {_quoted(spec)} \\" for spec in specs[:-1]]
        lines += [f"                {_quoted(spec)}" for spec in specs[-1:]]
        lines.append("            ;;")
    return "\n".join((*lines, "    esac", "}", f'_{program} "$@"', ""))


def _zsh_specs(option: Option) -> Iterator[str]:
    does = f"({' '.join(option.choices)})" if option.choices else ""
    if option.value.startswith(FILES):
        does = "_files"
    elif option.value.startswith(FOLDERS):
        does = "_files -/"
    takes = f":{option.value or 'value'}:{does}" if option.value or option.choices else ""
    if not option.names:
        yield f"1{takes}"
    for name in option.names:
        yield f"{name}[{_plain(option.meaning)}]{takes}"


def _plain(text: str) -> str:
    """A description without what zsh would read as its own."""
    return re.sub(r"[\[\]:\\]", " ", text)
