"""Pictures of runs: accuracy over simulated time, and over bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.reporting.drawing import drawn_panels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from fedcomp.reporting.history import RunHistory

_PANELS: tuple[tuple[str, Callable[[RunHistory], list[float] | None]], ...] = (
    ("simulated seconds", lambda run: run.seconds()),
    ("bytes up", lambda run: run.uplink_bytes()),
    ("bytes up and down", lambda run: run.num_bytes()),
)


def draw_curves(runs: Sequence[RunHistory], path: Path, *, targets: Sequence[float] = ()) -> None:
    """Draw accuracy over time and bytes, a line a run, into an SVG file; the same runs give the same file.

    The panel of simulated time has the runs that have one, and is left out if none has.

    Args:
        runs: What to draw.
        path: The file.
        targets: Accuracies to mark with a line.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    panels = [(label, cost) for label, cost in _PANELS if any(cost(run) for run in runs)]
    with drawn_panels(path, 1, len(panels)) as (axes,):
        for (label, cost), axis in zip(panels, axes, strict=True):
            _draw(axis, label, [(run, cost(run)) for run in runs], targets)
        axes[0].set_ylabel("accuracy")
        axes[-1].legend(fontsize=8, loc="lower right")


def _draw(
    axis: Axes, label: str, lines: Sequence[tuple[RunHistory, list[float] | None]], targets: Sequence[float]
) -> None:
    for number, (run, costs) in enumerate(lines):
        points = [(c, a) for c, a in zip(costs or [], run.accuracies(), strict=False) if a is not None]
        # Each run keeps its colour in all panels, those included where it has no line.
        axis.plot(
            [c for c, _ in points], [a for _, a in points], color=f"C{number % 10}", linewidth=1.2, label=run.name
        )
    for target in targets:
        axis.axhline(target, color="black", linewidth=0.6, linestyle=":")
    axis.set(xscale="log", xlabel=label)
    axis.grid(alpha=0.3)
