"""Models by name: ``cnn``, ``student-cnn(width=2)``, ``package.module:callable``."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.models.cnn import cnn, cnn_gn, student_cnn, student_pyramid
from fedcomp.models.perceptron import perceptron
from fedcomp.models.resnet import resnet8_gn
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    ModelBuilder: TypeAlias = Callable[..., nn.Module]
    """Called with an image's shape and the number of classes."""

MODELS: dict[str, ModelBuilder] = {
    "perceptron": perceptron,
    "cnn-gn": cnn_gn,
    "resnet8-gn": resnet8_gn,
    "cnn": cnn,
    "student-cnn": student_cnn,
    "student-pyramid": student_pyramid,
}
_WITH_WIDTH = re.compile(r"(?P<name>[\w-]+)\(width=(?P<width>\d+(\.\d*)?)\)")
_WIDTHS = (0.05, 16.0)


def build_model(name: str, *, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Build a model with seeded weights; the global random state is left as it was.

    Args:
        name: A name of `MODELS`, as ``student-cnn(width=2)`` where it has a width, or ``package.module:callable`` with
            the signature (image_shape, num_classes).
        image_shape: Channels, height, width.
        num_classes: Size of the output.
        seed: Same seed, same weights.

    Raises:
        ConfigError: There is no such model, or what the name leads to does not build one.
    """
    builder = MODELS.get(name) or _with_width(name) or _import_builder(name)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it seeds every device, fork_rng restores the CPU's state only.
        torch.default_generator.manual_seed(derive_seed(seed, "model"))
        model = builder(image_shape, num_classes)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {name!r} built a {type(model).__name__}, expected a torch.nn.Module")
    return model


def _with_width(text: str) -> ModelBuilder | None:
    match = _WITH_WIDTH.fullmatch(text)
    if not match:
        return None
    name, width = match["name"], float(match["width"])
    builders = {name: builder for name, builder in MODELS.items() if "width" in inspect.signature(builder).parameters}
    if name not in builders:
        raise ConfigError(f"model {text!r}: {name} has no width, expected one of {', '.join(builders)}")
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        raise ConfigError(f"model {text!r}: width is {width:g}, expected {_WIDTHS[0]} to {_WIDTHS[1]:g}")
    return partial(builders[name], width=width)


def _import_builder(name: str) -> ModelBuilder:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ConfigError(f"model is {name!r}, expected one of {', '.join(MODELS)} or package.module:callable")
    try:
        builder: ModelBuilder = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model {name!r} can't be imported: {error}") from None
    if not callable(builder):
        raise ConfigError(f"model {name!r} is a {type(builder).__name__}, expected a callable")
    return builder
