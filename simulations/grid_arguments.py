"""The command line that experiments of many runs share."""

from __future__ import annotations

import argparse
from pathlib import Path


def grid_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of ``run`` and ``report``, of folders, seeds, workers and changes; an experiment adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where rows and pictures go")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=None, help="processes that train clients")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of all configurations")
    return parser
