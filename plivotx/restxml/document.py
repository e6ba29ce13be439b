"""From the text of a document to its verbs, safely, with the line of each error."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from plivotx.config import Config
from plivotx.restxml.attributes import attributes
from plivotx.restxml.script import MISTAKES, Verb

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 10
MAX_ELEMENTS = 1000


class DocumentError(Exception):
    """The document cannot be run; says where and why.  The application's fault."""

    def __init__(self, line: int, column: int, why: str) -> None:
        super().__init__(f"line {line}, column {column}: {why}")
        self.line = line
        self.column = column
        self.why = why


class _Element(msgspec.Struct):
    name: str
    attributes: dict[str, str]
    line: int
    column: int
    text: str = ""
    children: list["_Element"] = msgspec.field(default_factory=list)


class _Builder:
    """What the XML parser calls; keeps line and column of each element."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.root: _Element | None = None
        self._open: list[_Element] = []
        self._count = 0

    def _here(self) -> tuple[int, int]:
        return self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1

    def start(self, name: str, attributes: dict[str, str]) -> None:
        line, column = self._here()
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise DocumentError(line, column, f"more than {MAX_ELEMENTS} elements")
        if len(self._open) >= MAX_DEPTH:
            raise DocumentError(line, column, f"elements nested deeper than {MAX_DEPTH}")
        element = _Element(name, attributes, line, column)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def data(self, text: str) -> None:
        self._open[-1].text += text

    def end(self, name: str) -> None:
        del name
        self._open.pop()

    def close(self) -> _Element | None:
        return self.root


def parse(text: str, verbs: Mapping[str, type[Verb]], config: Config) -> tuple[Verb, ...]:
    """The verbs of the document *text* in the order they run, all of them checked; *verbs* are the known ones.

    Raises DocumentError: not well-formed, a DTD or entities, too large or deep, a root other than
    Response, an unknown verb or one in the wrong place, a wrong attribute, a text that is missing, or
    what *config* does not allow.
    """
    if len(text) > MAX_CHARACTERS:
        raise DocumentError(1, 1, f"more than {MAX_CHARACTERS} characters")
    root = _tree(text)
    if root.name != "Response":
        raise DocumentError(root.line, root.column, f"the root is {_short(root.name)}, not Response")
    return tuple(verb for each in root.children for verb in _unfolded(each, verbs, config))


def _tree(text: str) -> _Element:
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    builder.parser = parser.parser
    try:
        parser.feed(text)
        root = parser.close()
    except ParseError as error:
        line, column = error.position
        reason, _, _ = str(error).partition(": line ")  # which counts columns from 0
        raise DocumentError(line, column + 1, f"not well-formed: {reason}") from None
    except DefusedXmlException as error:
        line, column = builder.parser.CurrentLineNumber, builder.parser.CurrentColumnNumber + 1
        raise DocumentError(
            line, column, f"a DTD or entities are not allowed ({type(error).__name__})"
        ) from None
    except (ValueError, UnicodeError) as error:  # lone surrogates, NUL: no XML at all
        raise DocumentError(1, 1, f"not well-formed: {error}") from None
    if not isinstance(root, _Element):
        raise DocumentError(1, 1, "the document is empty")
    return root


def _verb(element: _Element, verbs: Mapping[str, type[Verb]], config: Config) -> Verb:
    where = (element.line, element.column)
    name = element.name
    verb = verbs.get(name)
    if verb is None:
        known = ", ".join(sorted(verbs))
        raise DocumentError(*where, f"unknown verb {_short(name)} (known: {known})")
    for child in element.children:
        if child.name not in verb.nests:
            why = f"{_short(child.name)} cannot stand inside {name}"
            raise DocumentError(child.line, child.column, why)
    text = re.sub(r"\s+", " ", element.text).strip()
    if verb.content and not text:
        raise DocumentError(*where, f"{name} is empty: between its tags must be {verb.content}")
    try:
        made = msgspec.convert({**_given(verb, element.attributes), "text": text}, verb, strict=False)
        made = msgspec.structs.replace(
            made, children=tuple(_verb(each, verbs, config) for each in element.children)
        )
        made.check(config)
    except msgspec.ValidationError as error:
        raise DocumentError(*where, f"{name}: {_reason(str(error), verb, element.attributes)}") from None
    except ValueError as error:
        raise DocumentError(*where, f"{name}: {error}") from None
    except MISTAKES as error:  # a verb is a plugin: whatever its check raises ends the call, not its script
        raise DocumentError(*where, f"{name}: its check raised {error!r}") from error
    return made


def _unfolded(element: _Element, verbs: Mapping[str, type[Verb]], config: Config) -> tuple[Verb, ...]:
    verb = _verb(element, verbs, config)
    try:
        unfolded = tuple(islice(verb.unfold(), MAX_ELEMENTS + 1))
    except MISTAKES as error:
        why = f"{element.name}: its unfold raised {error!r}"
        raise DocumentError(element.line, element.column, why) from error
    wrong = next((each for each in unfolded if not isinstance(each, Verb)), None)
    if wrong is not None:
        why = f"{element.name} unfolds into {_short(repr(wrong))}, which is no verb"
        raise DocumentError(element.line, element.column, why)
    if len(unfolded) > MAX_ELEMENTS:
        why = f"{element.name} unfolds into more than {MAX_ELEMENTS} verbs"
        raise DocumentError(element.line, element.column, why)
    return unfolded


def _given(verb: type[Verb], given: Mapping[str, str]) -> dict[str, str | bool]:
    """The attributes that count; those that the verb does not know are ignored, as in v0.1."""
    counting = {each.name: each.read(given[each.name]) for each in attributes(verb) if each.name in given}
    return {name: value for name, value in counting.items() if value is not None}


def _reason(error: str, verb: type[Verb], given: Mapping[str, str]) -> str:
    """Msgspec's sentence, in the words of the document: name and value of the attribute, what it must be."""
    sentence, _, path = error.partition(" - at `$.")
    for each in attributes(verb):
        if each.name == path.rstrip("`") and each.name in given:
            return f"attribute {each.name}={_short(given[each.name])!r} is wrong: it must be {each.rule}"
        if each.required and each.name not in given:
            return f"attribute {each.name} is missing: it must be {each.rule}"
    return sentence


def _short(text: str) -> str:
    """A text of the application's making, as far as it is of use in a message."""
    return text if len(text) <= 80 else text[:77] + "..."
