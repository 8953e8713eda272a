"""Structured pruning: whole channels go, so the student is smaller and faster in any runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from fedcomp.errors import UsageError
from fedcomp.student.extra import student_extra
from fedcomp.student.magnitude import cubic_sparsity

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_LARGEST_SHARE_OF_A_LAYER = 0.9


def prune_channels(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    ratio: float,
    *,
    steps: int,
    fine_tune: Callable[[nn.Module], None],
    loss: Callable[[nn.Module], Tensor] | None = None,
) -> None:
    """Remove the least important channels of `model` in place, a few at a time, and let it recover after each step.

    Channels compete across the whole model; no layer loses more than nine in ten. The layer that makes the logits keeps
    its outputs.

    Args:
        model: Trained, of convolutions, norms and linear layers.
        image_shape: Channels, height, width.
        ratio: Share of channels that are gone at the end, 0 up to 0.9.
        steps: How often channels are removed, on the cubic schedule; 1 or more.
        fine_tune: Trains what is left, such as distillation.
        loss: If given, importance is what a first-order Taylor expansion of it says (Molchanov et al., CVPR 2019,
            section 3.1); else the L2 norm of a channel's weights.

    Raises:
        UsageError: The ratio is out of range, or the extra is not installed.

    References:
        Fang et al., DepGraph, CVPR 2023, section 3 (which layers must shrink together).
    """
    if not 0 <= ratio <= _LARGEST_SHARE_OF_A_LAYER:
        raise UsageError(f"a share of {ratio} of the channels can not go, expected 0 to {_LARGEST_SHARE_OF_A_LAYER}")
    with student_extra():
        import torch_pruning

        importance = torch_pruning.importance
        pruner = torch_pruning.pruner.BasePruner(
            model,
            torch.zeros(1, *image_shape),
            importance.GroupTaylorImportance() if loss else importance.GroupMagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=ratio,
            max_pruning_ratio=_LARGEST_SHARE_OF_A_LAYER,
            iterative_steps=steps,
            iterative_pruning_ratio_scheduler=_cubic_ratios,
            ignored_layers=[layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1:],
        )
        for _ in range(steps):
            if loss:
                model.zero_grad()
                loss(model).backward()
            pruner.step()
            model.zero_grad()
            fine_tune(model)


def _cubic_ratios(ratio: float, steps: int) -> list[float]:
    return [cubic_sparsity(step, start=1, end=steps, final=ratio) for step in range(steps + 1)]
