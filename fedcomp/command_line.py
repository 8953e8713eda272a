"""What all commands have in common: exit codes, and one clear line for each failure."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

import click

from fedcomp.errors import FedcompError, UsageError

if TYPE_CHECKING:
    import typer

_INTERRUPTED = 130


def run_command(app: typer.Typer, arguments: list[str], name: str) -> int:
    """Run a command and return its exit code: 0 only on success, 2 for a usage error, 1 for any other failure.

    A failure prints one clear line on stderr, and with ``--debug``, which may stand anywhere, its traceback.

    Args:
        app: The command.
        arguments: Without the program's name.
        name: Of the program, before its complaints.
    """
    debug = "--debug" in arguments
    try:
        return app([argument for argument in arguments if argument != "--debug"], standalone_mode=False) or 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail(name, "interrupted", _INTERRUPTED, debug)
    except click.ClickException as error:
        error.show()
        return 2
    except UsageError as error:
        return _fail(name, str(error), 2, debug)
    except FedcompError as error:
        return _fail(name, str(error), 1, debug)
    except Exception as error:
        return _fail(name, f"{type(error).__name__}: {error}", 1, debug)


def _fail(name: str, message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"{name}: {message}", file=sys.stderr)
    return code
