"""Reporting: a run's folder, its live display, tables. Needs no torch."""

from fedcomp.reporting.curves import draw_curves
from fedcomp.reporting.formatting import format_bytes, format_ratio, format_seconds, format_share
from fedcomp.reporting.frontier import draw_frontier, mean_and_spread
from fedcomp.reporting.history import RunHistory
from fedcomp.reporting.logs import LogFormat, LogSettings, configure_logging
from fedcomp.reporting.page import write_page
from fedcomp.reporting.progress import Progress, RoundRow
from fedcomp.reporting.prometheus import MetricsExporter
from fedcomp.reporting.recorder import LAST_ROUNDS, RunRecorder
from fedcomp.reporting.rows import update_rows
from fedcomp.reporting.run_folder import RunFolder, new_run_path
from fedcomp.reporting.system import peak_rss_bytes, versions
from fedcomp.reporting.table import comparison_table

__all__ = [
    "LAST_ROUNDS",
    "LogFormat",
    "LogSettings",
    "MetricsExporter",
    "Progress",
    "RoundRow",
    "RunFolder",
    "RunHistory",
    "RunRecorder",
    "comparison_table",
    "configure_logging",
    "draw_curves",
    "draw_frontier",
    "format_bytes",
    "format_ratio",
    "format_seconds",
    "format_share",
    "mean_and_spread",
    "new_run_path",
    "peak_rss_bytes",
    "update_rows",
    "versions",
    "write_page",
]
