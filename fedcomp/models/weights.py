"""A module's weights as NumPy arrays, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.types import Model, NDArray


def get_weights(model: nn.Module) -> dict[str, NDArray]:
    """Copy parameters and buffers, in ``state_dict`` order."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def set_weights(model: nn.Module, weights: Model) -> None:
    """Load weights of exactly the model's names and shapes.

    Raises:
        DataError: Names or shapes differ.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: values.shape for name, values in weights.items()}
    if wrong := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise DataError(
            f"weights do not fit the model in {len(wrong)} tensors, first {name!r}: "
            f"found {found.get(name, 'none')}, expected {expected.get(name, 'none')}"
        )
    model.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in weights.items()})
