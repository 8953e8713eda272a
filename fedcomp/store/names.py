"""What models and their bytes are called."""

from __future__ import annotations

import hashlib
import re

from fedcomp.errors import UsageError
from fedcomp.printable import printable

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def is_name(text: str) -> bool:
    """Tell whether a text can be a model's name."""
    return bool(_NAME.fullmatch(text))


def check_name(name: str) -> str:
    """Return a model's name, which is safe as a file's.

    Raises:
        UsageError: It is not 1 to 64 lower-case letters, digits, dots, dashes or underscores between two of the first.
    """
    if not is_name(name):
        raise UsageError(
            f"model is called {printable(name, 80)!r}, expected 1 to 64 lower-case letters, digits, dots, dashes and "
            "underscores, first and last a letter or digit"
        )
    return name


def digest_of(content: bytes) -> str:
    """Return the SHA-256 by which bytes are known, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def is_digest(text: str) -> bool:
    """Tell whether a text is such a digest."""
    return bool(_DIGEST.fullmatch(text))


def check_digest(text: str) -> str:
    """Return a digest; raises `UsageError` if it is none."""
    if not is_digest(text):
        raise UsageError(f"digest is {printable(text, 80)!r}, expected 64 hexadecimal digits in lower case")
    return text
