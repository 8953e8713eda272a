"""Whether a model is right as often as it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

NUM_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images whose confidence lies in (`lower`, `upper`].

    Args:
        lower: Of confidence, the largest probability of an answer.
        upper: The same.
        num_images: In the bin.
        confidence: Their mean confidence, 0 without images.
        accuracy: Share that is right, 0 without images.
    """

    lower: float
    upper: float
    num_images: int
    confidence: float
    accuracy: float


def reliability(logits: Tensor, labels: Tensor, num_bins: int = NUM_BINS) -> tuple[ReliabilityBin, ...]:
    """Sort images into bins of equal width by confidence.

    Args:
        logits: (N, K).
        labels: int64 (N,).
        num_bins: 1 or more.
    """
    confidence, answers = logits.double().softmax(dim=1).max(dim=1)
    right = (answers == labels).double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    places = torch.bucketize(confidence, edges[1:-1])
    counts = torch.bincount(places, minlength=num_bins)
    confidences, accuracies = (
        torch.bincount(places, weights=values, minlength=num_bins) / counts.clamp_min(1)
        for values in (confidence, right)
    )
    columns = (edges[:-1], edges[1:], counts, confidences, accuracies)
    return tuple(ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean distance of accuracy and confidence, 0 to 1: ``sum_m |B_m| / n * |acc(B_m) - conf(B_m)|``.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2, equation 5.
    """
    total = sum(each.num_images for each in bins)
    return sum(each.num_images * abs(each.accuracy - each.confidence) for each in bins) / max(total, 1)
