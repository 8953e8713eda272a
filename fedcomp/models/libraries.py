"""Networks of torchvision and timm, where they are installed: `torchvision:resnet18`, `timm:resnet18(pretrained=1)`."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.models.backbone import BackboneClassifier, Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which both libraries train with


def library_builder(name: str) -> Callable[..., nn.Module] | None:
    """Return the builder of ``LIBRARY:NAME``; None if the library is none of those that are known.

    The builder takes ``pretrained`` (1 lets the library download its weights) and ``side`` (smaller images are
    enlarged to it; 0 leaves all).
    """
    library, _, network = name.partition(":")
    backbones = {"torchvision": _torchvision, "timm": _timm}
    return partial(_build, library, network, backbones[library]) if library in backbones and network else None


def _build(
    library: str,
    network: str,
    backbone_of: Callable[[Any, str, bool], tuple[nn.Module, int]],
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    pretrained: int = 0,
    side: int = 0,
) -> nn.Module:
    try:
        module = importlib.import_module(library)
    except Exception as error:  # a torchvision of another torch raises a RuntimeError
        raise ConfigError(f"model {library}:{network} needs {library}, which can't be imported: {error}") from None
    try:
        backbone, num_features = backbone_of(module, network, bool(pretrained))
    except Exception as error:  # whatever either library raises for an unknown name, or while it downloads
        raise ConfigError(f"{library} can't build {network!r}: {error}") from None
    return BackboneClassifier(
        nn.Sequential(Preprocess(side, _MEAN, _STD), backbone), nn.Linear(num_features, num_classes)
    )


def _torchvision(library: Any, network: str, pretrained: bool) -> tuple[nn.Module, int]:
    models = importlib.import_module(f"{library.__name__}.models")
    model: nn.Module = models.get_model(network, weights="DEFAULT" if pretrained else None)
    return _without_classifier(model)


def _timm(library: Any, network: str, pretrained: bool) -> tuple[nn.Module, int]:
    model = library.create_model(network, pretrained=pretrained, num_classes=0)
    return model, int(model.num_features)


def _without_classifier(model: nn.Module) -> tuple[nn.Module, int]:
    """Replace the last linear layer, which is the classifier in every network of torchvision."""
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ConfigError("it has no linear layer that could be its classifier")
    name, layer = linear[-1]
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return model, layer.in_features
