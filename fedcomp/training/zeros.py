"""Pruned weights stay pruned while a model trains."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def keep_zeros(model: nn.Module) -> None:
    """Let no optimizer move the weights that are exactly zero now: they have no gradient from here on.

    Tensors of one axis (biases, norms) are left alone: they begin at zero. A weight that never had a gradient has
    neither momentum nor weight decay, so its update is exactly zero, and a codec spends next to nothing on it.
    """
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.all():
            parameter.register_hook(partial(torch.mul, (parameter.detach() != 0).to(parameter.dtype)))
