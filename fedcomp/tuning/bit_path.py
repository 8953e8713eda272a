"""Bits of single layers, in the order in which a sensitivity table would take them away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.explaining import LayerDamage

    _Rows: TypeAlias = Mapping[tuple[str, int], LayerDamage]

_LARGEST_DROP = 0.05


class PathPoint(NamedTuple):
    """Bits by layer, and the sum of the layers' bytes in the table."""

    bits: Mapping[str, int]
    num_bytes: int


def bit_path(table: Sequence[LayerDamage]) -> list[PathPoint]:
    """Take bits away greedily: first where they cost least accuracy a byte saved, of equals where fewer classes flip.

    A layer may skip widths. No step is taken that brings the sum of the layers' own drops over five points: layers that
    are hurt together are seldom hurt less.

    Args:
        table: A row for each layer and each width that it can have.

    Returns:
        The layers at their most bits; then what each step leaves.
    """
    rows = {(row.layer, row.bits): row for row in table}
    bits = {layer: max(width for name, width in rows if name == layer) for layer, _ in rows}
    path = [_point(rows, bits)]
    while steps := [
        (rows[layer, bits[layer]], row)
        for (layer, width), row in rows.items()
        if row.num_bytes < rows[layer, bits[layer]].num_bytes and _drop(rows, bits | {layer: width}) <= _LARGEST_DROP
    ]:
        _, best = min(steps, key=_cost)
        bits = bits | {best.layer: best.bits}
        path.append(_point(rows, bits))
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


def _point(rows: _Rows, bits: Mapping[str, int]) -> PathPoint:
    return PathPoint(bits, sum(rows[now].num_bytes for now in bits.items()))


def _drop(rows: _Rows, bits: Mapping[str, int]) -> float:
    return sum(max(rows[now].accuracy_drop, 0.0) for now in bits.items())
