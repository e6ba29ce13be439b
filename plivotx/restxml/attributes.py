"""What a verb's class says of its attributes: for reading documents, for messages, and for docs/verbs.md."""

import re
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, inspect

from plivotx.restxml.script import Verb

Kind: TypeAlias = Literal["number", "fraction", "truth", "choice", "text"]
NOT_ATTRIBUTES = ("text", "children")
_NUMBERS = {
    "number": re.compile("-?[0-9]{1,18}"),
    "fraction": re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?"),
}


def about(description: str, *, lenient: bool = False, ge: int | None = None, le: int | None = None) -> Meta:
    """What `Annotated` says of an attribute: what it is for, and its limits.

    With *lenient* a value that cannot be used counts as not given, and a number above *le* as *le*, as in
    v0.1; without it the document is refused.
    """
    return Meta(ge=ge, le=le, description=description, extra={"lenient": lenient})


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute of a verb."""

    name: str
    kind: Kind
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False
    lenient: bool = False
    description: str = ""

    @property
    def rule(self) -> str:
        """What a value must be, as the end of a sentence."""
        if self.kind == "choice":
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        words = {"number": "a whole number", "fraction": "a number", "truth": "true, or anything else"}
        limits = {
            (True, True): f" from {self.least} to {self.most}",
            (True, False): f" of at least {self.least}",
            (False, True): f" of at most {self.most}",
            (False, False): "",
        }[self.least is not None, self.most is not None]
        return words.get(self.kind, "a text") + limits

    def read(self, value: str) -> str | bool | None:
        """The value as msgspec is to convert it; None if it counts as not given."""
        if self.kind == "truth":
            return value == "true"
        if not self.lenient:
            return value
        if self.kind == "choice":
            return value if value in self.choices else None
        if self.kind != "text":
            if not _NUMBERS[self.kind].fullmatch(value):
                return None
            if self.most is not None and float(value) > self.most:
                return str(self.most)
        return value


@lru_cache(maxsize=256)
def attributes(verb: type[Verb]) -> tuple[Attribute, ...]:
    """The attributes of a verb, in the order of its fields."""
    described: Any = inspect.type_info(verb)
    return tuple(_attribute(each) for each in described.fields if each.name not in NOT_ATTRIBUTES)


def _attribute(field: inspect.Field) -> Attribute:
    kind: Any = field.type
    description, lenient = "", False
    if isinstance(kind, inspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description", "")
        lenient = (kind.extra or {}).get("lenient", False)
        kind = kind.type
    if isinstance(kind, inspect.UnionType):  # with None: not given
        kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    default = None if field.default is msgspec.NODEFAULT else field.default
    common: dict[str, Any] = {
        "name": field.encode_name,
        "default": default,
        "required": field.required,
        "lenient": lenient,
        "description": description,
    }
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        name: Kind = "number" if isinstance(kind, inspect.IntType) else "fraction"
        return Attribute(kind=name, least=kind.ge, most=kind.le, **common)
    if isinstance(kind, inspect.BoolType):
        return Attribute(kind="truth", **common)
    if isinstance(kind, inspect.LiteralType):
        return Attribute(kind="choice", choices=tuple(map(str, kind.values)), **common)
    return Attribute(kind="text", **common)
