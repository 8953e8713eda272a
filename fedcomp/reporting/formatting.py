"""Numbers for people."""

from __future__ import annotations


def format_bytes(count: float) -> str:
    """Return a byte count in decimal units, three significant digits: ``1.23 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def format_ratio(numerator: float, denominator: float) -> str:
    """Return how many times smaller the denominator is, or a dash if there is nothing to compare."""
    return f"{numerator / denominator:.3g}x" if numerator and denominator else "-"


def format_share(share: float | None) -> str:
    """Return a share of 1 in per cent, or a dash."""
    return "-" if share is None else f"{share:.1%}"


def format_seconds(seconds: float) -> str:
    """Return a duration: ``8.1 s``, ``2:05 min``, ``9.5 h`` or ``11.3 days``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 2 * 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
