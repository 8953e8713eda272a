"""Child processes that are ended when they are left, and do not outlive who started them."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from typing import IO, TYPE_CHECKING

from fedcomp.address import LOOPBACK
from fedcomp.errors import RunError
from fedcomp.forking import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_SECONDS_TO_END, _SECONDS_BETWEEN_LOOKS = 20.0, 0.1


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    log: IO[bytes] | int | None = None,
    last_signal: int = signal.SIGKILL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command; when the context is left it is asked to end, and after a while made to.

    It is in a session of its own, so Ctrl-C reaches this process alone, which decides what it means. On Linux the
    kernel sends it a signal when this process ends in any way.

    Args:
        command: Program and arguments.
        environment: All of it.
        folder: Where it runs; None is where this process does.
        log: Takes its output; None is this process's own.
        last_signal: What the kernel sends it.
    """
    process = subprocess.Popen(
        command,
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log is not None else None,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, last_signal) if sys.platform == "linux" else None,
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and kill it if it does not within 20 s."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(
    is_done: Callable[[], bool],
    process: subprocess.Popen[bytes],
    name: str,
    seconds: float | None,
    log: Path | None = None,
) -> None:
    """Wait until something is so, while a process lives.

    Args:
        is_done: Whether it is so.
        process: The process.
        name: What it is called.
        seconds: How long; None is as long as it lives.
        log: What it says, whose end is part of the error.

    Raises:
        RunError: The process has ended, or the time is over.
    """
    started = time.monotonic()
    while not is_done():
        if process.poll() is not None:
            raise RunError(f"{name} ended with exit code {process.returncode}{_last_words(log)}")
        if seconds is not None and time.monotonic() - started > seconds:
            raise RunError(f"{name} was not up within {seconds:g} s{_last_words(log)}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def free_ports(count: int) -> list[int]:
    """Ask the system for free loopback ports; all are held until all are known."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [held.getsockname()[1] for held in sockets]


def is_listening(port: int) -> bool:
    """Tell whether a loopback port takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _last_words(log: Path | None) -> str:
    """Return the end of a log."""
    return f": {log.read_text(encoding='utf-8', errors='replace').strip()[-2000:]}" if log else ""
