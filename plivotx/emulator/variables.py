"""Channel variables: a dict whose names are matched in any case, as FreeSWITCH's event headers are (switch_event.c)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

ARRAY = "ARRAY::"


class Variables(dict[str, str]):
    """Names to values, in the order in which they were set; an empty value deletes, an array of one is a plain value."""

    def __init__(self, other: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._spelt: dict[str, str] = {}
        if isinstance(other, Variables):
            self.take(other)
        elif other:
            for name, value in other.items():
                self[name] = value

    def __setitem__(self, name: str, value: str) -> None:
        """Set a variable; it then stands last, as a header that was deleted and added again."""
        if "[" in name:
            name, _, index = name.partition("[")
            value = self._with_element(name, index, value)
        folded = name.lower()
        if folded in self._spelt:
            super().__delitem__(self._spelt.pop(folded))
        if value.startswith(ARRAY) and "|:" not in value:
            value = value[len(ARRAY) :]
        if value and name:
            super().__setitem__(name, value)
            self._spelt[folded] = name

    def __getitem__(self, name: str) -> str:
        """Read a variable in whatever case it was written; `name[N]` is an element of an array."""
        if "[" in name:
            name, _, index = name.partition("[")
            elements = self.elements(name)
            at = _index(index)
            if not 0 <= at < len(elements):
                raise KeyError(name)
            return elements[at]
        return super().__getitem__(self._spelt[name.lower()])

    def __delitem__(self, name: str) -> None:
        super().__delitem__(self._spelt.pop(name.lower()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._spelt

    def get(self, name: str, default: Any = None) -> Any:
        """Read a variable, or the default where there is none."""
        spelt = self._spelt.get(name.lower())
        if spelt is not None:
            return super().__getitem__(spelt)
        if "[" in name:
            with suppress(KeyError):
                return self[name]
        return default

    def take(self, others: Variables) -> None:
        """Set all of the others, in their order."""
        if ARRAY in "\n".join(others.values()):  # set again, an array in an array is not what it was
            for name, value in others.items():
                self[name] = value
            return
        for folded in self._spelt.keys() & others._spelt.keys():
            super().__delitem__(self._spelt.pop(folded))
        super().update(others)
        self._spelt.update(others._spelt)

    def beginning(self, prefix: str) -> list[str]:
        """The values of all variables whose names begin so; `prefix` is in lower case."""
        return [self[name] for name in self._spelt if name.startswith(prefix)]

    def discard(self, name: str) -> None:
        """Unset a variable that may not be set."""
        if name in self:
            del self[name]

    def push(self, name: str, value: str) -> None:
        """Add an element to an array, as the `push` application does (in_value_encoding)."""
        elements = [*self.elements(name), value]
        self[name] = ARRAY + "|:".join(elements)

    def elements(self, name: str) -> list[str]:
        """The elements of an array, or the value as its only one."""
        value = self.get(name)
        if value is None:
            return []
        return elements(value)

    def _with_element(self, name: str, index: str, value: str) -> str:
        at = _index(index)
        found = self.elements(name)
        if not 0 <= at <= 4000:
            return ARRAY + "|:".join(found) if found else ""
        found += [""] * (at + 1 - len(found))
        found[at] = value
        return ARRAY + "|:".join(found)


def elements(value: str) -> list[str]:
    """The elements of a value as it stands in an event."""
    return value[len(ARRAY) :].split("|:") if value.startswith(ARRAY) else [value]


def _index(text: str) -> int:
    match = re.match(r"-?[0-9]{1,9}", text)
    return int(match[0]) if match else 0
