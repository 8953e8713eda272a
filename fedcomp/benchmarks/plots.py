"""Pictures of a benchmark: error against bytes, and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.codecs import PRESETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from fedcomp.benchmarks.codecs import CodecResult

FAMILIES: dict[str, tuple[str, ...]] = {
    "uniform": tuple(f"uniform(bits={bits})" for bits in (2, 3, 4, 5, 6, 8)),
    "uniform, stochastic": tuple(f"uniform(bits={bits}, stochastic=true)" for bits in (2, 3, 4, 6, 8)),
    "deadzone": tuple(f"deadzone(step={step}, largest=127)" for step in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)),
    "codebook": tuple(f"codebook(levels={levels})" for levels in (4, 8, 16, 64)),
    "nf4": ("nf4",),
    "log": ("log(bits=3)", "log(bits=4)"),
    "sign": ("sign",),
    "rotate, eden": tuple(f"rotate | eden(bits={bits}, unbiased=false)" for bits in (1, 2, 3, 4)),
    "topk, ternary": tuple(f"topk(density={density}) | ternary" for density in (0.0025, 0.01, 0.04, 0.1)),
    "topk, deadzone": tuple(f"topk(density={density}) | deadzone(step=0.5)" for density in (0.0025, 0.01, 0.04, 0.1)),
    "rows": tuple(f"rows(density={density}) | uniform(bits=8)" for density in (0.03, 0.1, 0.3)),
    "lowrank": tuple(
        f"lowrank(rank=16) | deadzone(step={step}, largest=127)" for step in (0.3, 0.5, 1.0, 2.0, 3.0, 6.0)
    ),
}
"""The codecs that are drawn as one line each."""


_NUM_COLOURS = 10


def sweep_codecs() -> list[str]:
    """Return all codecs of the pictures."""
    return list(dict.fromkeys([*PRESETS, *(codec for family in FAMILIES.values() for codec in family)]))


def draw_plots(results: Sequence[CodecResult], folder: Path) -> list[Path]:
    """Draw ``rate-distortion.svg`` and ``throughput.svg``; raises `ImportError` without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    deltas = list(dict.fromkeys(result.delta for result in results))
    with mpl.rc_context({"svg.hashsalt": "fedcomp", "font.size": 9}):
        figure, axes = plt.subplots(1, len(deltas), figsize=(5 * len(deltas), 4.5), squeeze=False, layout="constrained")
        for delta, axis in zip(deltas, axes[0], strict=True):
            _draw_front(axis, delta, {r.codec: r for r in results if r.delta == delta})
        axes[0][0].legend(fontsize=7)
        paths = [folder / "rate-distortion.svg", folder / "throughput.svg"]
        figure.savefig(paths[0], metadata={"Date": None})
        plt.close(figure)
        figure, axis = plt.subplots(figsize=(8, 0.22 * len(results) / len(deltas) + 1), layout="constrained")
        _draw_speeds(axis, [r for r in results if r.delta == deltas[-1]])
        figure.savefig(paths[1], metadata={"Date": None})
        plt.close(figure)
    return paths


def _draw_front(axis: Axes, delta: str, by_codec: dict[str, CodecResult]) -> None:
    for i, (family, codecs) in enumerate(FAMILIES.items()):
        found = sorted((by_codec[c].bits_per_parameter, by_codec[c].nmse) for c in codecs if c in by_codec)
        if found:
            style = "-" if i < _NUM_COLOURS else "--"
            axis.plot(*zip(*found, strict=True), linestyle=style, marker=".", linewidth=1, label=family)
    for preset in PRESETS:
        if preset in by_codec and by_codec[preset].nmse:
            place = by_codec[preset].bits_per_parameter, by_codec[preset].nmse
            axis.annotate(preset, place, xytext=(4, 4), textcoords="offset points")
            axis.plot(*place, "k*")
    axis.set(xscale="log", yscale="log", title=delta, xlabel="bits a parameter, whole frame", ylabel="error over norm")
    axis.grid(alpha=0.3)


def _draw_speeds(axis: Axes, results: Sequence[CodecResult]) -> None:
    names = [result.codec for result in results]
    rows = range(len(names))
    axis.barh([row - 0.2 for row in rows], [r.encode_gigabytes_per_second for r in results], 0.4, label="encode")
    axis.barh(
        [row + 0.2 for row in rows], [r.decode_gigabytes_per_second for r in results], 0.4, label="decode and add"
    )
    axis.set_yticks(rows, names, fontsize=7)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="GB/s of float32, one core", title=results[0].delta)
    axis.legend(fontsize=8)
    axis.grid(axis="x", alpha=0.3)
