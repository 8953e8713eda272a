"""What a client minimizes, with or without unlabelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional as F

from fedcomp.errors import ConfigError
from fedcomp.training.simsiam import SimSiam
from fedcomp.training.step import Step
from fedcomp.training.views import ImageViews

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator

    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict
    from fedcomp.training.views import Views


class Objective(Protocol):
    """Turns a batch into a loss."""

    @property
    def uses_unlabelled(self) -> bool:
        """Whether unlabelled examples are of any use to it."""
        ...

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator
    ) -> Step:
        """Return the loss of one step; at least one of the batches is given."""
        ...


@dataclass(frozen=True)
class Supervised:
    """Cross-entropy on labelled examples.

    Args:
        views: Of the inputs; only the weak one is used.
        augment: Whether it sees weak views, or the inputs as they are.
    """

    views: Views
    augment: bool = True
    uses_unlabelled: bool = False

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator
    ) -> Step:
        """Return the cross-entropy; unlabelled examples are ignored."""
        if labelled is None:
            raise ValueError("the supervised objective needs labelled examples")
        inputs = labelled.inputs
        if self.augment:
            inputs = self.views.weak(inputs, generator)
        return Step(F.cross_entropy(predict(inputs), labelled.labels))


@dataclass(frozen=True)
class FixMatch:
    """Supervised loss plus consistency: a confident guess on a weak view is the label of a strong view.

    ``CE(labelled) + weight * mean(1[max p >= threshold] * CE(strong, argmax p))``, p from the weak view without
    gradient; the mean is over all unlabelled examples, confident or not.

    Args:
        threshold: In [0, 1].
        weight: Of the unlabelled loss.
        views: Of the inputs.
        augment: Whether labelled inputs are seen in weak views; unlabelled ones always are.

    References:
        Sohn et al., FixMatch, NeurIPS 2020, section 2.2, equations 3 and 4.
    """

    threshold: float
    weight: float
    views: Views
    augment: bool = True
    uses_unlabelled: bool = True

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator
    ) -> Step:
        """Return both losses' sum, each where its batch is given."""
        supervised = Supervised(self.views, self.augment)
        if unlabelled is None:
            return supervised(predict, labelled, None, generator)
        with torch.no_grad():
            weak = self.views.weak(unlabelled.inputs, generator)
            confidence, guesses = predict(weak).softmax(dim=1).max(dim=1)
        mask = confidence >= self.threshold
        strong = self.views.strong(unlabelled.inputs, generator)
        per_example = F.cross_entropy(predict(strong), guesses, reduction="none")
        loss = self.weight * (per_example * mask).mean()
        if labelled is not None:
            loss = loss + supervised(predict, labelled, None, generator).loss
        correct = int((mask & (guesses == unlabelled.labels)).sum())
        return Step(loss, candidates=len(guesses), confident=int(mask.sum()), correct=correct)


def make_objective(
    name: str, *, threshold: float = 0.95, unlabelled_weight: float = 1.0, flip_ok: bool, augment: bool = True
) -> Objective:
    """Build an objective on images by name: ``supervised``, ``fixmatch`` or ``simsiam``.

    Raises:
        ConfigError: No objective has this name.
    """
    views = ImageViews(flip_ok)
    objectives: dict[str, Callable[[], Objective]] = {
        "supervised": lambda: Supervised(views, augment),
        "fixmatch": lambda: FixMatch(threshold, unlabelled_weight, views, augment),
        "simsiam": lambda: SimSiam(views),
    }
    if name not in objectives:
        raise ConfigError(f"objective is {name!r}, expected one of {', '.join(objectives)}")
    return objectives[name]()
