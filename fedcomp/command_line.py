"""What commands have in common: exit codes, one clear line for each failure, and how processes that stay log."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated

import click
import typer

from fedcomp.errors import FedcompError, UsageError
from fedcomp.reporting.logs import LogFormat

INTERRUPTED = 130
"""Exit code of a command that was ended by Ctrl-C."""

LogFormatOption = Annotated[LogFormat, typer.Option("--log-format", help="Lines for people, or JSON for machines.")]
LogLevelOption = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFileOption = Annotated[
    Path | None, typer.Option("--log-file", dir_okay=False, help="Log there, too: up to six files of 10 MiB.")
]


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
        return _fail(name, "interrupted", INTERRUPTED, debug)
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
