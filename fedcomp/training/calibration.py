"""Find out which way of computing is the fastest for a model on this machine: once a run, at one place.

A measured time is no function of a seed, and bfloat16 rounds otherwise than float32. So the choice is a value: the
server makes it, writes it into the run's configuration and sends it along; training itself never measures anything.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import asdict, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.config import AUTO
from fedcomp.data import ClientData
from fedcomp.training.compute import MEMORY_FORMATS, PRECISIONS, Compute, has_formats
from fedcomp.training.local import LocalSettings, train_locally
from fedcomp.training.objectives import ObjectiveSettings, make_objective
from fedcomp.training.views import image_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset

_TIMED_TURNS = 9
_WORTH_IT = 0.95  # of the first candidate's time; a smaller gain is noise


def resolve_compute(config: RunConfig, model: nn.Module, images: ImageDataset) -> RunConfig:
    """Replace ``auto`` in `precision` and `memory-format` by what is fastest here; without it nothing is measured.

    Args:
        config: The run; its device, threads, batch sizes, optimizer and objective are those that are measured.
        model: As the clients train it; left as it is.
        images: Labelled, any; one step's worth of them is used.
    """
    precisions = PRECISIONS if config.precision == AUTO else (config.precision,)
    formats: Sequence[str] = [config.memory_format]
    if config.memory_format == AUTO:
        formats = list(MEMORY_FORMATS) if has_formats(model) else [Compute().memory_format]
    candidates = [Compute(*names) for names in product(precisions, formats)]
    if len(candidates) > 1:
        candidates.sort(key=lambda candidate: candidate != Compute())  # the default is the one to beat
    chosen = fastest(candidates, _one_step(config, copy.deepcopy(model), images))
    return config.model_copy(update=asdict(chosen))


def fastest(
    candidates: Sequence[Compute],
    run: Callable[[Compute], object],
    *,
    budget: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Compute:
    """Run all candidates in turn, nine times after a first one that warms up, and compare their median times.

    Args:
        candidates: One or more; the first is the one to beat. One alone is not run.
        run: Computes in the given way.
        budget: Seconds after which nothing further is begun. A small model is done much earlier.
        clock: Returns seconds.

    Returns:
        The fastest, or the first if none is faster by 5 % or the time was too short to run each twice. A candidate
        that raises `RuntimeError`, as torch does for what a device can't do, is out; the first may not.
    """
    if len(candidates) == 1:
        return candidates[0]
    end = clock() + budget
    times: dict[Compute, list[float]] = {candidate: [] for candidate in candidates}
    for turn, candidate in product(range(1 + _TIMED_TURNS), candidates):
        if candidate not in times:
            continue
        start = clock()
        if start > end:
            break
        try:
            run(candidate)
        except RuntimeError:
            if candidate == candidates[0]:
                raise
            del times[candidate]
            continue
        if turn:
            times[candidate].append(clock() - start)
    if not all(times.values()):
        return candidates[0]
    medians = {candidate: statistics.median(measured) for candidate, measured in times.items()}
    best = min(medians, key=medians.__getitem__)
    return best if medians[best] < _WORTH_IT * medians[candidates[0]] else candidates[0]


def _one_step(config: RunConfig, model: nn.Module, images: ImageDataset) -> Callable[[Compute], object]:
    """Return a client's training on one batch, as the run does it."""
    labelled = images.take(np.arange(min(config.batch_size, len(images))))
    unlabelled = images.take(np.arange(min(config.batch_size * config.unlabelled_ratio, len(images))))
    data = ClientData(labelled, unlabelled.without_labels(), unlabelled.labels)
    objective = make_objective(ObjectiveSettings.of(config), image_views(config, images.flip_ok), images.num_classes)

    def run(compute: Compute) -> object:
        chosen = config.model_copy(update=asdict(compute))
        settings = replace(LocalSettings.of(chosen), epochs=1)
        return train_locally(model, data, settings, objective=objective, seed=config.seed)

    return run
