"""Peak memory of a call, libraries' own buffers included."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_REPEATS = 3


def peak_memory(act: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> int | None:
    """Return by how many bytes the process grew, at most, while `act` ran; None where the system does not tell.

    What `prepare` does before each call is not counted.

    It is the kernel's own count of resident memory (Linux). The peak is reset before each of three calls, and what was
    freed before is given back first, so that what `act` uses again counts as its own.
    """
    try:
        return max(_grown(act, prepare) for _ in range(_REPEATS))
    except (OSError, AttributeError):
        return None


def _grown(act: Callable[[], object], prepare: Callable[[], object]) -> int:
    prepare()
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR_REFS.write_text("5")  # resets VmHWM: man 5 proc_pid_clear_refs
    before = _status("VmRSS")
    kept = act()
    peak = _status("VmHWM")
    del kept
    return peak - before


def _status(name: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
