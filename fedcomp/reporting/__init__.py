"""Reporting: a run's folder, its live display, tables. Needs neither torch nor Flower."""

from fedcomp.reporting.formatting import format_bytes, format_ratio, format_seconds, format_share
from fedcomp.reporting.progress import Progress, RoundRow
from fedcomp.reporting.run_folder import RunFolder
from fedcomp.reporting.system import peak_rss_bytes, versions
from fedcomp.reporting.table import comparison_table

__all__ = [
    "Progress",
    "RoundRow",
    "RunFolder",
    "comparison_table",
    "format_bytes",
    "format_ratio",
    "format_seconds",
    "format_share",
    "peak_rss_bytes",
    "versions",
]
