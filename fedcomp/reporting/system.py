"""What a run ran on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import resource
import sys

_PACKAGES = ("fedcomp", "flwr", "numpy", "torch", "openzl", "pcodec", "zstandard")


def peak_rss_bytes() -> int:
    """Return this process's peak resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that decide about a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
