"""Unstructured pruning: the smallest weights become zero, more of them from step to step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import UsageError
from fedcomp.models import get_weights, set_weights
from fedcomp.training import keep_zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from fedcomp.types import Model, NDArray


def cubic_sparsity(step: int, *, start: int, end: int, final: float) -> float:
    r"""Return the share of weights that are zero after `step`: fast at first, slow as it comes to what matters.

    ``s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3`` with ``s_i = 0``; 0 before `start`, `final` from `end` on.

    Args:
        step: Counted as `start` and `end` are.
        start: First step that prunes.
        end: From here on nothing more is pruned; not before `start`.
        final: Share at the end, 0 to 1.

    References:
        Zhu and Gupta, To prune, or not to prune, 2017, equation 1.
    """
    if step < start:
        return 0.0
    progress = min(1.0, (step - start + 1) / (end - start + 1))
    return final * (1 - (1 - progress) ** 3)


def prune_smallest(weights: Model, ratio: float) -> dict[str, NDArray]:
    """Set the smallest weights of the whole model to zero.

    Only tensors of two axes and more are pruned: biases and norms are few, and each counts for a whole channel.

    Args:
        weights: A model's; left alone.
        ratio: Share of the prunable weights that are zero afterwards, at least, 0 to 1.

    Raises:
        UsageError: The ratio is out of range.
    """
    if not 0 <= ratio <= 1:
        raise UsageError(f"a share of {ratio} of the weights can not be pruned, expected 0 to 1")
    prunable = {name: np.abs(values) for name, values in weights.items() if _is_prunable(values)}
    magnitudes = np.concatenate([values.ravel() for values in prunable.values()] or [np.zeros(0)])
    count = round(ratio * magnitudes.size)
    if not count:
        return dict(weights)
    threshold = np.partition(magnitudes, count - 1)[count - 1]
    return {
        name: np.where(prunable[name] > threshold, values, values.dtype.type(0)) if name in prunable else values
        for name, values in weights.items()
    }


def sparsity(weights: Model) -> float:
    """Return the share of the prunable weights that are zero; 0 if there are none."""
    prunable = [values for values in weights.values() if _is_prunable(values)]
    total = sum(values.size for values in prunable)
    return 1 - sum(np.count_nonzero(values) for values in prunable) / total if total else 0.0


def prune_weights(model: nn.Module, ratio: float, *, steps: int, fine_tune: Callable[[nn.Module], None]) -> None:
    """Prune `model` in place by magnitude on the cubic schedule, and let it recover after each step.

    Args:
        model: Trained; pruned weights have no gradient afterwards.
        ratio: Share of zeros at the end, 0 to 1.
        steps: How often weights are pruned, 1 or more.
        fine_tune: Trains what is left, such as distillation.
    """
    for step in range(1, steps + 1):
        set_weights(model, prune_smallest(get_weights(model), cubic_sparsity(step, start=1, end=steps, final=ratio)))
        keep_zeros(model)
        fine_tune(model)


def _is_prunable(values: NDArray) -> bool:
    return values.ndim > 1 and values.dtype.kind == "f"
