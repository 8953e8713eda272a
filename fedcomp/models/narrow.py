"""A model cut down to the shapes of given weights: how a student with pruned channels is built again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.types import Model

_SIZES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("out_channels", "in_channels"),
    nn.Linear: ("out_features", "in_features"),
    nn.BatchNorm2d: ("num_features",),
}
"""Which attributes say the length of a weight's axes."""


def narrow_to(model: nn.Module, weights: Model) -> None:
    """Make the layers of `model` as narrow as `weights`, in place; what it computes is arbitrary until they are set.

    Args:
        model: The architecture before pruning.
        weights: Of that architecture, or with fewer channels; tensors of the same number of axes, none longer.

    Raises:
        DataError: A tensor is missing, longer, or of another number of axes.
    """
    for layer_name, layer in model.named_modules():
        for attribute in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(layer, attribute, None)
            name = f"{layer_name}.{attribute}".lstrip(".")
            if tensor is None:
                continue
            if name not in weights:
                raise DataError(f"weights of a pruned {type(model).__name__} lack {name!r}")
            shape = weights[name].shape
            if len(shape) != tensor.dim() or any(new > old for new, old in zip(shape, tensor.shape, strict=True)):
                raise DataError(f"{name!r} has shape {shape}, expected {tuple(tensor.shape)} or less on each axis")
            tensor.data = tensor.data[tuple(slice(length) for length in shape)].clone()
        for attribute, length in zip(_SIZES.get(type(layer), ()), _shape(layer), strict=False):
            setattr(layer, attribute, length)


def _shape(layer: nn.Module) -> tuple[int, ...]:
    weight = getattr(layer, "weight", None)
    return () if weight is None else tuple(weight.shape)
