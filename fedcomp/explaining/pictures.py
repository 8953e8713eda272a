"""An explanation as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.reporting.drawing import drawn_panels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from fedcomp.explaining.explain import Explanation, ModelReport
    from fedcomp.explaining.saliency import SaliencyDrift
    from fedcomp.explaining.sensitivity import LayerDamage
    from fedcomp.explaining.tensor_bytes import TensorBytes

_MAP_PANEL = (1.5, 1.6)


def draw_explanation(found: Explanation, folder: Path) -> list[Path]:
    """Draw sensitivity, reliability, attribution maps and bytes as SVG files.

    Args:
        found: What to draw.
        folder: An existing one; files of these names are replaced.

    Returns:
        The files.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    paths = {name: folder / f"{name}.svg" for name in ("sensitivity", "reliability", "bytes", "saliency")}
    with drawn_panels(paths["sensitivity"], 1, 1) as ((axis,),):
        _draw_sensitivity(axis, found.sensitivity)
    with drawn_panels(paths["reliability"], 1, len(found.models)) as (axes,):
        for axis, (name, report) in zip(axes, found.models.items(), strict=True):
            _draw_reliability(axis, name, report)
    with drawn_panels(paths["bytes"], 1, 1) as ((axis,),):
        _draw_bytes(axis, found.tensors)
    if not found.saliency:
        return [path for name, path in paths.items() if name != "saliency"]
    _draw_maps(found.saliency, found.classes, paths["saliency"])
    return list(paths.values())


def _draw_sensitivity(axis: Axes, rows: Sequence[LayerDamage]) -> None:
    """A line a change, a place a layer: where a line rises, bits must stay."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    for change in dict.fromkeys(row.change for row in rows):
        drops = {row.layer: 100 * row.accuracy_drop for row in rows if row.change == change}
        axis.plot(range(len(layers)), [drops[layer] for layer in layers], marker="o", markersize=3, label=change)
    axis.set_xticks(range(len(layers)), layers, rotation=90, fontsize=6)
    axis.set_ylabel("accuracy drop, points")
    axis.grid(alpha=0.3)
    if layers:
        axis.legend(fontsize=7)


def _draw_reliability(axis: Axes, name: str, report: ModelReport) -> None:
    full = [each for each in report.reliability if each.num_images]
    axis.bar(
        [each.lower for each in full],
        [each.accuracy for each in full],
        width=[each.upper - each.lower for each in full],
        align="edge",
        edgecolor="white",
    )
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.6, linestyle=":")
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axis.set_title(f"{name}, expected calibration error {report.calibration_error:.1%}")


def _draw_bytes(axis: Axes, rows: Sequence[TensorBytes]) -> None:
    names = [row.tensor for row in rows]
    axis.barh(names, [row.ledger.total for row in rows])
    axis.tick_params(axis="y", labelsize=6)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="bytes of each tensor, encoded alone")


def _draw_maps(found: SaliencyDrift, classes: Sequence[str], path: Path) -> None:
    """A column a class: the image, and what speaks for (red) and against (blue) the teacher's answer."""
    labels, columns = np.unique(found.images.labels, return_index=True)
    with drawn_panels(path, 3, len(columns), panel=_MAP_PANEL) as lines:
        for place, (label, index) in enumerate(zip(labels, columns, strict=True)):
            pixels = np.moveaxis(found.images.images[index], 0, -1)
            lines[0][place].imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray")
            lines[0][place].set_title(classes[label], fontsize=7)
            for line, maps in zip(lines[1:], (found.teacher, found.student), strict=True):
                attribution = maps[index].numpy()
                limit = float(np.abs(attribution).max()) or 1.0
                line[place].imshow(attribution, cmap="bwr", vmin=-limit, vmax=limit)
            lines[2][place].set_xlabel(f"drift {found.drift[index]:.2f}", fontsize=7)
        for line, name in zip(lines, ("image", "teacher", "student"), strict=True):
            line[0].set_ylabel(name, fontsize=7)
            for axis in line:
                axis.set(xticks=[], yticks=[])
