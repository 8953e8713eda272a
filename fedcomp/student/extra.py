"""The libraries of the extra ``student``: imported late, called quietly, and missed with a clear word."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL_HINT = "pip install 'fedcomp[student]'"


@contextlib.contextmanager
def student_extra() -> Iterator[None]:
    """Import and call exporters, quantizers and pruners in here.

    They warn of their own deprecations and of optional parts that no CPU needs, in dozens of lines that a user can do
    nothing about; what goes wrong raises. For as long as the context lasts nothing below an error is logged.

    Raises:
        UsageError: One of the libraries is not installed.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        raise UsageError(f"making a student's files needs {error.name}: {INSTALL_HINT}") from None
    finally:
        logging.disable(before)
