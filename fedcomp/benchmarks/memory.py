"""Peak memory of a call, or of another process, libraries' own buffers included (Linux)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_PROC = Path("/proc")
_REPEATS = 3


class Memory(NamedTuple):
    """Resident memory of a process, bytes: what it has now, and the most that it has had since `reset_peak`."""

    now: int
    peak: int


def peak_memory(
    act: Callable[[], object], prepare: Callable[[], object] = lambda: None, *, repeats: int = _REPEATS
) -> int | None:
    """Return by how many bytes the process grew, at most, while `act` ran; None where the system does not tell.

    What `prepare` does before each call is not counted.

    It is the kernel's own count of resident memory. The peak is reset before each of some calls, and what was freed
    before is given back first, so that what `act` uses again counts as its own.
    """
    try:
        return max(_grown(act, prepare) for _ in range(repeats))
    except (OSError, AttributeError):
        return None


def reset_peak(process_id: int) -> None:
    """Let a process's peak begin anew; raises `OSError` where the system can not."""
    (_PROC / str(process_id) / "clear_refs").write_text("5")  # resets VmHWM: man 5 proc_pid_clear_refs


def read_memory(process_id: int) -> Memory:
    """Return a process's memory; raises `OSError` where the system does not tell."""
    lines = (_PROC / str(process_id) / "status").read_text().splitlines()
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return Memory(*(int(found[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def _grown(act: Callable[[], object], prepare: Callable[[], object]) -> int:
    prepare()
    ctypes.CDLL(None).malloc_trim(0)
    reset_peak(os.getpid())
    before = read_memory(os.getpid()).now
    kept = act()
    peak = read_memory(os.getpid()).peak
    del kept
    return peak - before
