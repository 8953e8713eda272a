"""Time of views and of a step of each objective, in turn, on one thread."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fedcomp.models import build_model
from fedcomp.training import (
    Batch,
    ImageViews,
    LocalSettings,
    ObjectiveSettings,
    make_objective,
    strong_augment,
    train_on_batches,
    weak_augment,
)
from fedcomp.training.augmentation import cutmix, mixup
from fedcomp.training.objectives import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

_SHAPE, _NUM_CLASSES = (1, 28, 28), 10
_VIEW_BATCH, _BATCH, _RATIO, _STEPS = 512, 32, 2, 4


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """One measurement.

    Args:
        what: A view of 512 images of 28 x 28, or a step of an objective: 32 labelled images and 64 others.
        milliseconds: Processor time, median.
        least: The least of all turns: what other programs disturb less.
        ratio: Median over that of the weak view, or of the supervised step.
    """

    what: str
    milliseconds: float
    least: float
    ratio: float


def benchmark_training(model: str, *, turns: int) -> list[TrainingResult]:
    """Measure views and objectives.

    Args:
        model: Its name, see `MODELS`.
        turns: Of each, after one that warms up; 1 or more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_compared(_views(), turns), *_compared(_objectives(model), turns, steps=_STEPS)]
    finally:
        torch.set_num_threads(threads)


def _views() -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_VIEW_BATCH, *_SHAPE, generator=generator)
    targets = torch.eye(_NUM_CLASSES)[torch.randint(0, _NUM_CLASSES, (_VIEW_BATCH,), generator=generator)]
    return {
        "weak": lambda: weak_augment(images, generator, flip_ok=True),
        "strong": lambda: strong_augment(images, generator, flip_ok=True),
        "mixup": lambda: mixup(images, targets, generator, 0.75),
        "cutmix": lambda: cutmix(images, targets, generator, 0.75),
    }


def _objectives(model: str) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_STEPS * _BATCH * _RATIO, *_SHAPE, generator=generator)
    unlabelled = Batch(images, torch.randint(0, _NUM_CLASSES, (len(images),), generator=generator))
    labelled = unlabelled.take(torch.arange(_STEPS * _BATCH))
    trained = build_model(model, image_shape=_SHAPE, num_classes=_NUM_CLASSES, seed=0)
    settings = LocalSettings(batch_size=_BATCH, unlabelled_ratio=_RATIO)

    def step_of(chosen: ObjectiveSettings) -> Callable[[], object]:
        objective = make_objective(chosen, ImageViews(flip_ok=True), _NUM_CLASSES)
        return lambda: train_on_batches(trained, labelled, unlabelled, settings, objective=objective, seed=0)

    named = {name: ObjectiveSettings(objective=name) for name in ("supervised", *PRESETS)}
    once = ObjectiveSettings(pseudo_labels="broadcast", pseudo_threshold=0.0)
    return {name: step_of(chosen) for name, chosen in (named | {"fixmatch, broadcast, all trusted": once}).items()}


def _compared(work: dict[str, Callable[[], object]], turns: int, *, steps: int = 1) -> list[TrainingResult]:
    times: dict[str, list[float]] = {what: [] for what in work}
    for turn in range(turns + 1):
        for what, run in work.items():
            start = time.thread_time()
            run()
            if turn:
                times[what].append(1000 * (time.thread_time() - start) / steps)
    medians = {what: statistics.median(measured) for what, measured in times.items()}
    first = next(iter(medians.values()))
    return [TrainingResult(what, median, min(times[what]), median / first) for what, median in medians.items()]
