"""FreeMatch's fairness: the classes that a model seldom guesses are not forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from fedcomp.training.objectives.thresholds import Confidence


def fairness_loss(logits: Tensor, is_trusted: Tensor, seen: Confidence) -> Tensor:
    r"""Return ``sum(N(p / h) * log N(q / g))``, N dividing by the sum; 0 where nothing is trusted.

    p and h are the mean probabilities and the histogram of guesses that have been seen, q and g those of the trusted
    strong views. A class that is guessed more often than its probabilities say weighs less on both sides.

    Args:
        logits: (B, K), of strong views.
        is_trusted: bool, (B,).
        seen: Of weak views.

    References:
        Wang et al., FreeMatch, ICLR 2023, section 3.2, equations 10 to 12.
    """
    probabilities = logits.softmax(dim=1)
    weight = is_trusted[:, None] / is_trusted.sum().clamp_min(1)
    guesses = torch.zeros_like(probabilities).scatter_(1, probabilities.argmax(dim=1, keepdim=True), 1.0)
    wanted = _balanced(seen.classes, seen.histogram)
    found = _balanced((probabilities * weight).sum(dim=0), (guesses * weight).sum(dim=0))
    return (wanted * torch.log(found + 1e-12)).sum() * is_trusted.any()


def _balanced(probabilities: Tensor, histogram: Tensor) -> Tensor:
    """Divide by how often a class is guessed, classes that never are left out; the sum is 1."""
    ratio = torch.where(histogram > 0, probabilities / histogram.clamp_min(1e-12), 0.0)
    return ratio / ratio.sum().clamp_min(1e-12)
