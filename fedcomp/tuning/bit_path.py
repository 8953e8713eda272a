"""Bits of single layers, in the order in which a sensitivity table would take them away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.explaining import LayerDamage

_LARGEST_DROP = 0.05


class PathPoint(NamedTuple):
    """Bits by layer, and the sum of the layers' bytes in the table."""

    bits: Mapping[str, int]
    num_bytes: int


def bit_path(table: Sequence[LayerDamage]) -> list[PathPoint]:
    """Take bits away greedily: first where they cost least accuracy a byte saved, of equals where fewer classes flip.

    A layer may skip widths. The path ends before the sum of the layers' own drops is over five points: layers that are
    hurt together are seldom hurt less.

    Args:
        table: A row for each layer and each width that it can have.

    Returns:
        The layers at their most bits; then what each step leaves.
    """
    rows = {(row.layer, row.bits): row for row in table}
    bits = {layer: max(width for name, width in rows if name == layer) for layer, _ in rows}
    path: list[PathPoint] = []
    while sum(max(rows[now].accuracy_drop, 0.0) for now in bits.items()) <= _LARGEST_DROP or not path:
        path.append(PathPoint(bits, sum(rows[now].num_bytes for now in bits.items())))
        steps = [(rows[layer, bits[layer]], row) for (layer, _), row in rows.items()]
        smaller = [step for step in steps if step[1].num_bytes < step[0].num_bytes]
        if not smaller:
            break
        _, best = min(smaller, key=_cost)
        bits = bits | {best.layer: best.bits}
    return path


def points_along(path: Sequence[PathPoint], count: int) -> list[PathPoint]:
    """Return at most `count` points of a path, without its first, about equally many bytes apart."""
    first, last = path[0].num_bytes, path[-1].num_bytes
    goals = [first + (last - first) * part / count for part in range(1, count + 1)]
    nearest = [min(path[1:], key=lambda point: abs(point.num_bytes - goal), default=None) for goal in goals]
    return [point for number, point in enumerate(nearest) if point and point not in nearest[:number]]


def _cost(step: tuple[LayerDamage, LayerDamage]) -> tuple[float, float]:
    before, after = step
    saved = before.num_bytes - after.num_bytes
    return (after.accuracy_drop - before.accuracy_drop) / saved, (after.flip_rate - before.flip_rate) / saved
