"""What the server promises, against what a run of the benchmark has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.benchmarks.bars import Bar, at_least, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.benchmarks.server.fold import FoldResult
    from fedcomp.benchmarks.server.kills import KilledRun
    from fedcomp.benchmarks.server.soak import SoakResult

_CODEC = "thin"


def check_server(
    folds: Sequence[FoldResult], soaked: Sequence[SoakResult] = (), killed: Sequence[KilledRun] = ()
) -> list[Bar]:
    """Return the bars that these results tell something about."""
    of_codec = [fold for fold in folds if fold.codec == _CODEC]
    return [*_fold_bars(of_codec), *_soak_bars(soaked), *_kill_bars(killed)]


def _kill_bars(killed: Sequence[KilledRun]) -> Iterator[Bar]:
    for run in killed:
        whose = f"{run.kills} kills of {run.victims}"
        yield Bar(
            whose, "every round is done once", f"{run.rounds} of {run.rounds_asked}", run.rounds == run.rounds_asked
        )
        if run.same_model is not None:
            measured = "the same, bit for bit" if run.same_model else "another"
            yield Bar(whose, "the model of the run that nobody killed", measured, run.same_model)
        difference = run.accuracy - run.accuracy_unharmed
        yield Bar(whose, "accuracy within 3 points of it", f"{100 * difference:+.1f} points", abs(difference) <= 0.03)


def _soak_bars(soaked: Sequence[SoakResult]) -> Iterator[Bar]:
    for result in soaked:
        if result.what == "disk_megabytes":  # a round leaves a row, an event and lines of log, and nothing else
            what, most = f"{result.side}, kB that each of {result.rounds} rounds leaves on disk", 4.0
            grown = 1024 * (result.late - result.early) / (result.rounds / 2)
        else:
            what, most = f"{result.side}, {result.what} late over early in {result.rounds} rounds", 1.02
            grown = result.late / result.early
        if flat := at_most(what, most, [grown]):
            yield flat


def _fold_bars(folds: Sequence[FoldResult]) -> Iterator[Bar]:
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
