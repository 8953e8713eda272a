r"""Text of strangers, made fit for a terminal and a log: short, on one line, without control sequences.

A client says why it failed, and the server shows it. As it comes, such a text can clear a screen, hide a line behind a
carriage return, forge a log record behind a newline, or fill a disk. Nobody but its author loses by what is done here.
"""

from __future__ import annotations

MAX_LENGTH = 500
"""Characters of a stranger's text that are shown."""

_CUT = "... (cut)"


def printable(text: str, max_length: int = MAX_LENGTH) -> str:
    r"""Escape what is not printable, and cut what is too long.

    Newlines, tabs, escape sequences, directional marks, surrogates and unassigned characters become what Python's
    string literals write for them. Printable text in any script stays as it is. Doing it twice changes nothing.

    Args:
        text: Anything.
        max_length: Most characters of the result, at least 9.

    Returns:
        Printable characters only, on one line.

    Example:
        >>> print(printable("disk full\n2026-01-01 INFO all is well\x1b[2J"))
        disk full\n2026-01-01 INFO all is well\x1b[2J
        >>> printable("long" * 100, 20)
        'longlonglon... (cut)'
    """
    shown = "".join(map(_escape, text[:max_length]))
    if len(text) <= max_length and len(shown) <= max_length:
        return shown
    return shown[: max_length - len(_CUT)] + _CUT


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
