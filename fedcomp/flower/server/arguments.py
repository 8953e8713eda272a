"""Arguments of another kind than they should be, told where they are given and not in the first round."""

from __future__ import annotations

from numbers import Real

from fedcomp.codecs import NO_CODEC
from fedcomp.errors import UsageError


def check_codecs(**texts: object) -> None:
    """Raise `UsageError` unless each argument is a text; what it says is not looked at."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UsageError(f"{name} is {text!r}, expected text: a codec such as 'thin', or {NO_CODEC!r}")


def check_numbers(**numbers: object) -> None:
    """Raise `UsageError` unless each argument is a number, of any range."""
    for name, number in numbers.items():
        if not isinstance(number, Real):
            raise UsageError(f"{name} is {number!r}, expected a number")
