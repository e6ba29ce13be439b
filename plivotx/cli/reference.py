"""The tables of docs/cli.md, made of the parser; `python -m plivotx.cli.reference` prints them."""

import argparse

from plivotx.cli.completion import Command, Option, commands
from plivotx.cli.main import make_parser


def tables(parser: argparse.ArgumentParser) -> str:
    """A section for each command; what all of them take stands in one of its own."""
    found = commands(parser)
    common = _common(found)
    sections = [_section(each, common) for each in found]
    shared = ["### What every command that asks a server takes", "", *_rows(common), ""]
    return "\n".join([*shared, *(line for each in sections for line in each)]).rstrip() + "\n"


def _common(found: list[Command]) -> list[Option]:
    """What the first command and the one that lists calls share: the options of every question to a server."""
    call, calls = (next(each for each in found if each.name == name) for name in ("show", "calls"))
    return [each for each in call.options if each in calls.options and "--help" not in each.names]


def _section(command: Command, common: list[Option]) -> list[str]:
    asks = all(each in command.options for each in common)
    own = [each for each in command.options if "--help" not in each.names and not (asks and each in common)]
    arguments = " ".join(
        f"[{_value(each)}]" if not each.required else _value(each) for each in own if not each.names
    )
    head = [
        f"### `plivotx {command.name}{' ' if arguments else ''}{arguments}`",
        "",
        _sentence(command.meaning),
        "",
    ]
    return [*head, *(_rows(own) if own else ["It has no options of its own."]), ""]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _value(option: Option) -> str:
    return option.value or "|".join(option.choices)


def _rows(options: list[Option]) -> list[str]:
    return ["| | |", "|---|---|", *(_row(each) for each in options)]


def _row(option: Option) -> str:
    name = " ".join(filter(None, (", ".join(option.names), _value(option)))).replace("|", "\\|")
    required = "; required" if option.required and option.names else ""
    return f"| `{name}` | {option.meaning}{required} |"


if __name__ == "__main__":
    print(tables(make_parser()), end="")  # noqa: T201 - it is asked for
