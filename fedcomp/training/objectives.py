"""What a client minimizes, with or without unlabelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch.nn import functional as F

from fedcomp.errors import ConfigError
from fedcomp.training.augment import strong_augment, weak_augment

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict


class Step(NamedTuple):
    """A loss to minimize, and counts of pseudo-labels: how many there could be, are, and are right."""

    loss: Tensor
    candidates: int = 0
    confident: int = 0
    correct: int = 0


class Objective(Protocol):
    """Turns a batch into a loss."""

    @property
    def uses_unlabelled(self) -> bool:
        """Whether unlabelled images are of any use to it."""
        ...

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator
    ) -> Step:
        """Return the loss of one step; at least one of the batches is given."""
        ...


@dataclass(frozen=True)
class Supervised:
    """Cross-entropy on labelled images.

    Args:
        flip_ok: Whether a mirrored image keeps its label.
        augment: Whether it sees them weakly augmented, or as they are.
    """

    flip_ok: bool
    augment: bool = True
    uses_unlabelled: bool = False

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator
    ) -> Step:
        """Return the cross-entropy; unlabelled images are ignored."""
        if labelled is None:
            raise ValueError("the supervised objective needs labelled images")
        images = labelled.images
        if self.augment:
            images = weak_augment(images, generator, flip_ok=self.flip_ok)
        return Step(F.cross_entropy(predict(images), labelled.labels))


@dataclass(frozen=True)
class FixMatch:
    """Supervised loss plus consistency: a confident guess on a weak view is the label of a strong view.

    ``CE(labelled) + weight * mean(1[max p >= threshold] * CE(strong, argmax p))``, p from the weak view without
    gradient; the mean is over all unlabelled images, confident or not.

    Args:
        threshold: In [0, 1].
        weight: Of the unlabelled loss.
        flip_ok: Whether a mirrored image keeps its label.
        augment: Whether labelled images are weakly augmented; unlabelled ones always are.

    References:
        Sohn et al., FixMatch, NeurIPS 2020, section 2.2, equations 3 and 4.
    """

    threshold: float
    weight: float
    flip_ok: bool
    augment: bool = True
    uses_unlabelled: bool = True

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator
    ) -> Step:
        """Return both losses' sum, each where its batch is given."""
        supervised = Supervised(self.flip_ok, self.augment)
        if unlabelled is None:
            return supervised(predict, labelled, None, generator)
        with torch.no_grad():
            weak = weak_augment(unlabelled.images, generator, flip_ok=self.flip_ok)
            confidence, guesses = predict(weak).softmax(dim=1).max(dim=1)
        mask = confidence >= self.threshold
        strong = strong_augment(unlabelled.images, generator, flip_ok=self.flip_ok)
        per_image = F.cross_entropy(predict(strong), guesses, reduction="none")
        loss = self.weight * (per_image * mask).mean()
        if labelled is not None:
            loss = loss + supervised(predict, labelled, None, generator).loss
        correct = int((mask & (guesses == unlabelled.labels)).sum())
        return Step(loss, candidates=len(guesses), confident=int(mask.sum()), correct=correct)


def make_objective(
    name: str, *, threshold: float = 0.95, unlabelled_weight: float = 1.0, flip_ok: bool, augment: bool = True
) -> Objective:
    """Build an objective by name: ``supervised`` or ``fixmatch``.

    Raises:
        ConfigError: No objective has this name.
    """
    objectives: dict[str, Callable[[], Objective]] = {
        "supervised": lambda: Supervised(flip_ok, augment),
        "fixmatch": lambda: FixMatch(threshold, unlabelled_weight, flip_ok, augment),
    }
    if name not in objectives:
        raise ConfigError(f"objective is {name!r}, expected one of {', '.join(objectives)}")
    return objectives[name]()
