"""From which confidence on a guess is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Confidence(NamedTuple):
    """How sure a model has been of its guesses.

    Args:
        level: Scalar: mean of the largest probability.
        classes: (K,): mean probability of each class.
        histogram: (K,): share of each class among the guesses.
    """

    level: Tensor
    classes: Tensor
    histogram: Tensor

    @classmethod
    def of(cls, probabilities: Tensor) -> Confidence:
        """Measure (N, K) probabilities, N at least 1."""
        largest, guesses = probabilities.max(dim=1)
        counts = torch.bincount(guesses, minlength=probabilities.shape[1])
        return cls(largest.mean(), probabilities.mean(dim=0), counts / len(guesses))

    def moved(self, probabilities: Tensor, decay: float) -> Confidence:
        """Return the exponential moving average with a new batch; a decay of 1 leaves it as it is."""
        if decay == 1:
            return self
        now = Confidence.of(probabilities)
        return Confidence(*(new.lerp(old, decay) for old, new in zip(self, now, strict=True)))


class Threshold(Protocol):
    """Decides who is trusted."""

    @property
    def decay(self) -> float | None:
        """Of the confidence that it follows; None if it follows none."""
        ...

    def by_class(self, seen: Confidence | None, num_classes: int) -> Tensor:
        """Return the threshold of each class, (K,) or a scalar."""
        ...


@dataclass(frozen=True)
class FixedThreshold:
    """One number for all classes.

    Args:
        value: In [0, 1].

    References:
        Sohn et al., FixMatch, NeurIPS 2020, section 2.2.
    """

    value: float
    decay: float | None = None

    def by_class(self, seen: Confidence | None, num_classes: int) -> Tensor:
        """Return the number."""
        return torch.tensor(self.value)


@dataclass(frozen=True)
class AdaptiveThreshold:
    r"""As sure as the model is on average, less for the classes that it seldom thinks of.

    ``threshold_c = level * classes_c / max(classes)``. The client measures level and classes of the received model on
    its own unlabelled examples when a round begins; with a decay below 1 they then follow the model in training.

    Args:
        decay: In [0, 1]; 1 keeps what was measured.

    References:
        Wang et al., FreeMatch, ICLR 2023, section 3.1, equations 5 to 8; Lee et al., (FL)^2, NeurIPS 2024, section 4.1
        (the client's own threshold, measured with the model that it received).
    """

    decay: float | None = 1.0

    def by_class(self, seen: Confidence | None, num_classes: int) -> Tensor:
        """Return the thresholds of what has been seen; raises `ValueError` if nothing has."""
        if seen is None:
            raise ValueError("an adaptive threshold needs confidences to adapt to")
        return seen.level * seen.classes / seen.classes.max()
