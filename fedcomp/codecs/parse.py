"""Codec texts: ``keep(below=64) | topk(density=0.01) | ternary``, or a preset's name.

::

    codec  = preset | stage ("|" stage)*
    stage  = name [ "(" [ name "=" value ("," name "=" value)* ] ")" ]
    value  = number | "true" | "false" | name
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, get_type_hints

from fedcomp.codecs.pipeline import Codec
from fedcomp.codecs.registry import PRESETS, QUANTIZERS, SPARSIFIERS, STAGES, TRANSFORMS
from fedcomp.codecs.stage import ParameterError
from fedcomp.codecs.stages.balance import Balance
from fedcomp.codecs.stages.keep import Keep
from fedcomp.codecs.stages.trainable import Trainable
from fedcomp.codecs.stages.warmup import Warmup
from fedcomp.errors import CodecSpecError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fedcomp.codecs.stage import Stage

_TOKEN = re.compile(r"\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>\w+)|(?P<mark>[|(),=]))")
_VALUES: dict[type, tuple[str, Callable[[str], Any], str]] = {
    bool: ("name", {"true": True, "false": False}.__getitem__, "true or false"),
    int: ("number", int, "an integer"),
    float: ("number", float, "a number"),
    str: ("name", str, "a word"),
}


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Placed(NamedTuple):
    stage: Stage
    position: int


@functools.lru_cache(maxsize=64)
def parse_codec(text: str) -> Codec:
    """Build a codec from its text or a preset's name.

    Raises:
        CodecSpecError: The text does not parse; the message points at the place.

    Example:
        >>> str(parse_codec("topk(density=0.5)|ternary"))
        'topk(density=0.5) | ternary'
    """
    return _Parser(PRESETS.get(text.strip(), text)).codec()


class _Parser:
    """A recursive-descent parser: one method a grammar rule, one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokenize(text))
        self.next = 0

    def codec(self) -> Codec:
        placed = [self.stage()]
        while self.peek().text == "|":
            self.take("|")
            placed.append(self.stage())
        self.take("")
        return self.compose(placed)

    def compose(self, placed: list[_Placed]) -> Codec:
        """Put the stages in their places, in the order of `roles`, each at most once."""
        roles: tuple[tuple[str, Iterable[Any]], ...] = (
            ("trainable", (Trainable,)),
            ("keep", (Keep,)),
            ("balance", (Balance,)),
            ("warmup", (Warmup,)),
            ("sparsifier", SPARSIFIERS.values()),
            ("transform", TRANSFORMS.values()),
            ("quantizer", QUANTIZERS.values()),
        )
        parts: dict[str, Any] = {}
        remaining = list(placed)
        for role, members in roles:
            if remaining and type(remaining[0].stage) in members:
                parts[role] = remaining.pop(0).stage
        if remaining:
            stage, position = remaining[0]
            order = ", ".join(role for role, _ in roles)
            self.fail(f"{stage.name} can't stand here: the order is {order}, each at most once", position)
        if "quantizer" not in parts:
            names = ", ".join(quantizer.name for quantizer in QUANTIZERS.values())
            self.fail(f"a quantizer is missing at the end, expected one of {names}", len(self.text))
        try:
            return Codec(**parts)
        except UsageError as error:
            self.fail(str(error), placed[-1].position)

    def stage(self) -> _Placed:
        name = self.take_kind("name", "a stage's name")
        if name.text not in STAGES:
            self.fail(f"no stage is called {name.text!r}{_hint(name.text, [*STAGES, *PRESETS])}", name.position)
        arguments = self.arguments(STAGES[name.text]) if self.peek().text == "(" else {}
        values = {key: value for key, (value, _) in arguments.items()}
        for field in fields(STAGES[name.text]):
            if field.default is MISSING and field.name not in values:
                self.fail(f"{name.text} needs {field.name}, as in {name.text}({field.name}=...)", name.position)
        try:
            return _Placed(STAGES[name.text](**values), name.position)
        except ParameterError as error:
            self.fail(str(error), arguments[error.name][1])

    def arguments(self, stage: type[Stage]) -> dict[str, tuple[Any, int]]:
        types = get_type_hints(stage)
        known = [field.name for field in fields(stage)]
        arguments: dict[str, tuple[Any, int]] = {}
        self.take("(")
        while self.peek().text != ")":
            name = self.take_kind("name", "a parameter's name")
            if name.text not in known:
                self.fail(f"{stage.name} has no parameter {name.text!r}{_hint(name.text, known)}", name.position)
            if name.text in arguments:
                self.fail(f"{name.text} is given twice", name.position)
            self.take("=")
            position = self.peek().position
            arguments[name.text] = self.value(types[name.text], name.text), position
            if self.peek().text != ")":
                self.take(",")
        self.take(")")
        return arguments

    def value(self, wanted: type, name: str) -> Any:
        kind, convert, expected = _VALUES[wanted]
        token = self.take_kind(kind, f"{expected} for {name}")
        try:
            return convert(token.text)
        except (KeyError, ValueError):
            self.fail(f"found {_shown(token.text)}, expected {expected} for {name}", token.position)

    def peek(self) -> _Token:
        return self.tokens[self.next]

    def take(self, text: str) -> _Token:
        token = self.peek()
        if token.text != text:
            self.fail(f"found {_shown(token.text)}, expected {_shown(text)}", token.position)
        self.next += 1
        return token

    def take_kind(self, kind: str, expected: str) -> _Token:
        token = self.peek()
        if token.kind != kind:
            self.fail(f"found {_shown(token.text)}, expected {expected}", token.position)
        self.next += 1
        return token

    def fail(self, message: str, position: int) -> NoReturn:
        raise CodecSpecError(message, self.text, position)


def _tokenize(text: str) -> Iterable[_Token]:
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if not match or not match.lastgroup:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise CodecSpecError(f"found {text[start]!r}, which no codec text has", text, start)
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
        position = match.end()
    yield _Token("end", "", len(text))


def _shown(text: str) -> str:
    return repr(text) if text else "the end"


def _hint(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f", expected one of {', '.join(known)}"
