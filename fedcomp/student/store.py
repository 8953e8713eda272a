"""A student's weights on disk, beside the card that says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import DataError
from fedcomp.files import pack_tensors, read_json, read_tensors, write_atomically
from fedcomp.models import get_weights, narrow_to, set_weights
from fedcomp.run_files import CARD_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from fedcomp.types import NDArray

_WEIGHTS = "student.safetensors"


def save_student(folder: Path, model: nn.Module) -> int:
    """Write ``student.safetensors``: floats as float16, or float32 where they are out of its range.

    Returns:
        Bytes of the file.
    """
    content = pack_tensors({name: _narrow(values) for name, values in get_weights(model).items()})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _WEIGHTS, content)
    return len(content)


def _narrow(values: NDArray) -> NDArray:
    if values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    # 65,504 is float16's largest number: a running variance of unscaled inputs can be above it.
    return half if np.isfinite(half).all() else values


def load_student(folder: Path, model: nn.Module) -> None:
    """Load a saved student's weights into `model`, a model of its architecture.

    Raises:
        DataError: The file is missing or damaged, or is of another architecture.
    """
    set_weights(model, _read_weights(folder))


def open_student(folder: Path, build: Callable[[str], nn.Module]) -> nn.Module:
    """Build the student that a folder's card names, as narrow as it was pruned, with its weights.

    Args:
        folder: With ``student.safetensors`` and ``card.json``.
        build: Builds an architecture by its name.

    Raises:
        DataError: A file is missing or damaged, or the weights are of another architecture.
    """
    name = read_json(folder / CARD_FILE).get("model")
    if not isinstance(name, str):
        raise DataError(f"{folder / CARD_FILE} holds no student's card: its model is {name!r}, expected a name")
    weights, model = _read_weights(folder), build(name)
    narrow_to(model, weights)
    set_weights(model, weights)
    return model


def _read_weights(folder: Path) -> dict[str, NDArray]:
    weights = read_tensors(folder / _WEIGHTS)
    return {name: v.astype(np.float32) if v.dtype == np.float16 else v for name, v in weights.items()}
