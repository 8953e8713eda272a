"""What an earlier run has learned, under a new head: ``run:runs/pretraining``."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.files import read_tensors
from fedcomp.models.backbone import BackboneClassifier, split_backbone
from fedcomp.models.weights import set_weights
from fedcomp.run_files import CONFIG_FILE, MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIX = "run:"


def earlier_run_builder(
    name: str, find_builder: Callable[[str], Callable[..., nn.Module]]
) -> Callable[..., nn.Module] | None:
    """Return the builder of ``run:FOLDER``; None if the name is not of this form.

    What it builds is a `BackboneClassifier`: the backbone of the folder's model, pretrained or a classifier's, with the
    weights that the run ended with, and a new linear head.

    Args:
        name: Without arguments.
        find_builder: Returns the builder that the name of the earlier run's model leads to.
    """
    folder = name.removeprefix(_PREFIX)
    return partial(_build, Path(folder), find_builder) if folder != name else None


def _build(
    folder: Path,
    find_builder: Callable[[str], Callable[..., nn.Module]],
    image_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """Build the model.

    Raises:
        ConfigError: The folder is not that of a finished run, its model is its own, or has no linear head.
        DataError: The weights are damaged, or for other images.
    """
    try:
        model = find_builder(_model_of(folder))(image_shape, num_classes)
    except RecursionError:
        raise ConfigError(f"model {_PREFIX}{folder}: its configuration leads back to itself") from None
    backbone, head = split_backbone(model)
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"the model of {folder} ends in a {type(head).__name__}, expected a linear layer")
    learned = {
        # A Sequential's backbone has no prefix, a pretrained one or that of a BackboneClassifier has.
        name.removeprefix("backbone."): values
        for name, values in read_tensors(folder / MODEL_FILE).items()
    }
    set_weights(backbone, {name: learned[name] for name in backbone.state_dict() if name in learned})
    return BackboneClassifier(backbone, nn.Linear(head.in_features, num_classes))


def _model_of(folder: Path) -> str:
    for name in (CONFIG_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise ConfigError(f"model {_PREFIX}{folder}: that is not the folder of a finished run, it has no {name}")
    try:
        model = tomllib.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["model"]
    except (ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error!r}, expected a run's configuration") from None
    return str(model)
