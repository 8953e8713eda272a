"""Panels in one SVG file that is the same for the same data, byte for byte."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fedcomp.errors import UsageError
from fedcomp.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes


@contextlib.contextmanager
def drawn_panels(
    path: Path, rows: int, columns: int, *, panel: tuple[float, float] = (4.5, 3.8)
) -> Iterator[list[list[Axes]]]:
    """Give panels to draw on, and write them into a file in the end.

    Args:
        path: The file.
        rows: Lines of panels; those of a line share their upright axis.
        columns: Panels in a line.
        panel: Width and height of one, in inches.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise UsageError("drawing needs matplotlib: pip install 'fedcomp[report]'") from None
    mpl.use("Agg")
    from io import BytesIO

    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "fedcomp", "font.size": 9}):
        size = (panel[0] * columns, panel[1] * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey="row", layout="constrained")
        yield axes.tolist()
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
        plt.close(figure)
    write_atomically(path, drawn.getvalue())
