"""Static BatchNorm: clients normalize by their batches and keep no statistics; the server measures those afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_BATCH_SIZE = 256


@contextlib.contextmanager
def untracked_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm layers leave their running statistics as they are while they train.

    Statistics of skewed clients do not average, and averaged ones fit no averaged model.

    References:
        Diao et al., HeteroFL, ICLR 2021, section 3 (static batch normalization).
    """
    layers = [module for module in _norms(model) if module.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def measure_statistics(model: nn.Module, inputs: Tensor) -> None:
    """Set the running statistics of BatchNorm layers, in place, to the mean over batches of 256.

    Args:
        model: Left in the mode that it was in; one without such layers stays as it is.
        inputs: (N, ...), N at least 2.
    """
    layers = list(_norms(model))
    if not layers:
        return
    was_training, momenta = model.training, [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a mean over all batches, not a moving one
    model.train()
    with torch.no_grad():
        for batch in inputs.tensor_split(max(1, round(len(inputs) / _BATCH_SIZE))):
            model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.train(was_training)


def _norms(model: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in model.modules() if isinstance(module, _BatchNorm))
