"""Models by name: ``cnn``, ``student-cnn(width=2)``, ``run:FOLDER``, ``simplex:NAME``, ``package.module:callable``."""

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
from fedcomp.models.earlier_run import earlier_run_builder
from fedcomp.models.efficientnet_lite0 import efficientnet_lite0
from fedcomp.models.libraries import library_builder
from fedcomp.models.mobilenet_v2 import mobilenet_v2
from fedcomp.models.perceptron import perceptron
from fedcomp.models.resnet import resnet8_gn
from fedcomp.models.simplex import PREFIX as SIMPLEX
from fedcomp.models.simplex import simplex_classifier
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    ModelBuilder: TypeAlias = Callable[..., nn.Module]
    """Takes image shape and number of classes, and perhaps numbers by keyword."""

MODELS: dict[str, ModelBuilder] = {
    "perceptron": perceptron,
    "cnn-gn": cnn_gn,
    "resnet8-gn": resnet8_gn,
    "cnn": cnn,
    "student-cnn": student_cnn,
    "student-pyramid": student_pyramid,
    "mobilenet-v2": mobilenet_v2,
    "efficientnet-lite0": efficientnet_lite0,
}
_EXPECTED = "expected (image_shape, num_classes), and perhaps numbers by keyword"
_NAME = re.compile(r"(?P<base>[^()\s]+)(?:\((?P<arguments>[^()]*)\))?")


def build_model(name: str, *, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Build a model with seeded weights; the global random state is left as it was.

    Args:
        name: A name of `MODELS`, ``torchvision:NAME``, ``timm:NAME``, ``run:FOLDER`` (the backbone that an earlier run
            has trained), or ``package.module:callable`` with the signature (image_shape, num_classes). Numbers may
            follow, as in ``mobilenet-v2(width=0.5, side=64)``. ``simplex:`` before any of them puts a fixed head on it.
        image_shape: Channels, height, width.
        num_classes: Size of the output.
        seed: Same seed, same weights.

    Raises:
        ConfigError: There is no such model, or what the name leads to does not build one.
        DataError: The weights that the name leads to are damaged, or do not fit.
    """
    builder = _find_builder(name)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it seeds every device, fork_rng restores the CPU's state only.
        torch.default_generator.manual_seed(derive_seed(seed, "model"))
        model = builder(image_shape, num_classes)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {name!r} built a {type(model).__name__}, expected a torch.nn.Module")
    return model


def _find_builder(name: str) -> ModelBuilder:
    """Return the builder that a name leads to, given the name's arguments."""
    if name.strip().startswith(SIMPLEX):
        return partial(simplex_classifier, _find_builder(name.strip().removeprefix(SIMPLEX)))
    parsed = _NAME.fullmatch(name.strip())
    if not parsed:
        raise ConfigError(f"model is {name!r}, expected NAME or NAME(key=number, ...)")
    base = parsed["base"]
    builder = (
        MODELS.get(base) or library_builder(base) or earlier_run_builder(base, _find_builder) or _import_builder(base)
    )
    arguments = dict(_parse_argument(pair, name) for pair in (parsed["arguments"] or "").split(",") if pair.strip())
    try:
        signature = inspect.signature(builder)
    except ValueError:  # some of what is written in C
        raise ConfigError(f"model {name!r} is no builder: its arguments are not known, {_EXPECTED}") from None
    known = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(arguments.keys() - known):
        raise ConfigError(f"model {name!r}: {base} takes no {unknown[0]}, only {', '.join(known) or 'a bare name'}")
    try:
        signature.bind((1, 1, 1), 2, **arguments)
    except TypeError as error:
        raise ConfigError(f"model {name!r} takes {signature}, {_EXPECTED}: {error}") from None
    return partial(builder, **arguments)


def _parse_argument(pair: str, name: str) -> tuple[str, int | float]:
    key, _, text = (part.strip() for part in pair.partition("="))
    for kind in (int, float):
        try:
            return key, kind(text)
        except ValueError:
            continue
    raise ConfigError(f"model {name!r}: {pair.strip()!r} is not of the form key=number")


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
