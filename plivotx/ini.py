"""Cut the text of an INI file into sections and entries, each with its line, and complain of all the rest.  Pure.

The standard library's parser forgets the lines and stops at the first thing it does not like.

* ``[NAME]`` begins a section; ``KEY = value`` and ``KEY: value`` are entries.
* A line that begins with ``#`` or ``;`` is a comment, and so is what follows a blank and ``;`` in a line.
* A line that is indented deeper than the entry above it continues its value.
* ``""`` is the empty value.
"""

import re
from collections.abc import Callable

import msgspec


class Entry(msgspec.Struct):
    """One key and what it is said to be; the lines of a continued value are joined by line feeds."""

    key: str
    value: str
    line: int


class Section(msgspec.Struct):
    """What stands between one ``[NAME]`` and the next."""

    name: str
    line: int
    entries: list[Entry]


def parse(text: str, complain: Callable[[int, str], None]) -> list[Section]:
    """The sections of *text*, in order; *complain* is told the line and the reason of what cannot be read.

    No complaint quotes a value: a line that went wrong may hold a password.
    """
    sections: list[Section] = []
    entry: Entry | None = None
    depth = 0
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        content = re.split(r"\s;", content, maxsplit=1)[0].rstrip()
        indent = len(line) - len(line.lstrip())
        if entry is not None and indent > depth:
            entry.value = f"{entry.value}\n{content}" if entry.value else content
            continue
        entry = None
        if content[0] == "[":
            name = " ".join(content[1:-1].split())
            if content[-1] != "]" or not name:
                complain(number, "a section begins with [NAME]")
                name = ""  # what follows belongs to no section that anybody knows
            sections.append(Section(name, number, []))
            continue
        found = re.fullmatch(r"([^=:]*?)\s*[=:]\s*(.*)", content)
        if not found or not found[1]:
            complain(number, "expected KEY = value")
            continue
        if not sections:
            complain(number, f"{found[1]} stands before the first [section]")
            continue
        entry = Entry(found[1], found[2], number)
        depth = indent
        sections[-1].entries.append(entry)
    for each in (entry for section in sections for entry in section.entries):
        if each.value == '""':
            each.value = ""
    return [each for each in sections if each.name]
