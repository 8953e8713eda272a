"""A module's weights as NumPy arrays, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from fedcomp.types import Model, NDArray


def get_weights(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, NDArray]:
    """Copy parameters and buffers, in ``state_dict`` order: all, or those of the given names."""
    wanted = None if names is None else set(names)
    tensors = model.state_dict().items()
    return {name: t.detach().cpu().numpy().copy() for name, t in tensors if wanted is None or name in wanted}


def set_weights(model: nn.Module, weights: Model, names: Iterable[str] | None = None) -> None:
    """Load weights of exactly the model's names and shapes, or of exactly the given ones of its names.

    Raises:
        DataError: Names or shapes differ.
    """
    wanted = None if names is None else set(names)
    tensors = model.state_dict().items()
    expected = {name: tuple(t.shape) for name, t in tensors if wanted is None or name in wanted}
    found = {name: values.shape for name, values in weights.items()}
    if wrong := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise DataError(
            f"weights do not fit the model in {len(wrong)} tensors, first {name!r}: "
            f"found {found.get(name, 'none')}, expected {expected.get(name, 'none')}"
        )
    # Not strict: what is not named stays as it is, and what is named has been compared. Copied only if torch could not
    # read the array where it is: a second whole model is what a server with many clients' models can least afford.
    tensors_of = {
        name: torch.from_numpy(np.require(values, requirements=("C", "W"))) for name, values in weights.items()
    }
    model.load_state_dict(tensors_of, strict=False)
