"""Models by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, TypeAlias

import torch

from fedcomp.errors import ConfigError
from fedcomp.models.cnn import cnn, cnn_gn, student_cnn
from fedcomp.models.perceptron import perceptron
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    ModelBuilder: TypeAlias = Callable[[tuple[int, int, int], int], nn.Module]

MODELS: dict[str, ModelBuilder] = {
    "perceptron": perceptron,
    "cnn-gn": cnn_gn,
    "cnn": cnn,
    "student-cnn": student_cnn,
}


def build_model(name: str, *, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Build a model with seeded weights; the global random state is left as it was.

    Args:
        name: A name of `MODELS`, or ``package.module:callable`` with the signature (image_shape, num_classes).
        image_shape: Channels, height, width.
        num_classes: Size of the output.
        seed: Same seed, same weights.

    Raises:
        ConfigError: There is no such model.
    """
    builder = MODELS.get(name) or _import_builder(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        return builder(image_shape, num_classes)


def _import_builder(name: str) -> ModelBuilder:
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"model is {name!r}, expected one of {', '.join(MODELS)} or package.module:callable")
    try:
        builder: ModelBuilder = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model {name!r} can't be imported: {error}") from None
    return builder
