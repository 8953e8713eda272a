"""Running variances of BatchNorm, which a lossy codec can make negative: then a model answers NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedcomp.types import Model, NDArray

_SUFFIX = "running_var"
"""As torch names them."""


def mend_variances(model: Model, before: Model) -> Model:
    """Return a model whose running variances are positive where they were: one that is not becomes half of what it was.

    Where all are, that is the same object.

    Args:
        model: Tensors by name; values of others than running variances are left alone.
        before: The model of the round before; what has another shape there, or is none of it, is left alone, too.
    """
    mended = {
        name: _mended(values, before[name])
        for name, values in model.items()
        if name.rpartition(".")[2] == _SUFFIX and _can_be_mended(values, before.get(name))
    }
    return {**model, **mended} if mended else model


def _can_be_mended(values: NDArray, before: NDArray | None) -> bool:
    return before is not None and before.shape == values.shape and bool(((values <= 0) & (before > 0)).any())


def _mended(values: NDArray, before: NDArray) -> NDArray:
    return np.where((values <= 0) & (before > 0), before / 2, values).astype(values.dtype)
