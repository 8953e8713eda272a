"""What a run ran on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = ("fedcomp", "flwr", "numpy", "torch", "openzl", "pcodec", "zstandard")


def peak_rss_bytes() -> int:
    """Return the memory of this process and all below it.

    It is this process's peak, or what the whole tree holds now if that is more. Pages that processes share are counted
    once (Linux's proportional set size); elsewhere only this process is known. Workers keep what they once needed, so
    after the last round this is near the tree's peak, but may be below it.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = peak if sys.platform == "darwin" else peak * 1024
    return max(own, sum(map(_shared_memory_bytes, _process_tree(os.getpid()))))


def _process_tree(root: int) -> Iterator[int]:
    """Yield the ids of a process and of all that it and its children started."""
    yield root
    for children in Path(f"/proc/{root}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from _process_tree(int(child))


def _shared_memory_bytes(process: int) -> int:
    """Return a process's resident memory, of shared pages its share; 0 if that is not known."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that decide about a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
