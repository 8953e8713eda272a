"""What the server promises, against what a run of the benchmark has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.benchmarks.bars import Bar, at_least, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.benchmarks.server.fold import FoldResult

_CODEC = "thin"


def check_server(folds: Sequence[FoldResult]) -> list[Bar]:
    """Return the bars that these results tell something about."""
    return list(_bars([fold for fold in folds if fold.codec == _CODEC]))


def _bars(folds: Sequence[FoldResult]) -> Iterator[Bar]:
    for references in (False, True):
        alike = sorted((fold for fold in folds if fold.references == references), key=lambda fold: fold.updates)
        name = f"{_CODEC}{' with references' if references else ''}"
        largest = [fold.updates_a_second for fold in alike[-1:]]
        if fast := at_least(f"{name}, updates folded by a core in a second", 200, largest):
            yield fast
        grown = [fold.grown_megabytes for fold in alike]
        if len(alike) > 1 and grown[0] and grown[-1]:
            what = f"{name}, memory of {alike[-1].updates} updates over that of {alike[0].updates}"
            if flat := at_most(what, 1.1, [grown[-1] / grown[0]]):
                yield flat
