"""A student on disk: float16 weights and a card that says what it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.files import pack_tensors, read_tensors, write_atomically
from fedcomp.models import get_weights, set_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

_WEIGHTS, _CARD = "student.safetensors", "card.json"


def save_student(folder: Path, model: nn.Module, card: Mapping[str, Any]) -> int:
    """Write ``student.safetensors`` (floats as float16) and ``card.json``.

    Returns:
        Bytes of the weights file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: values.astype(np.float16) if values.dtype.kind == "f" else values
        for name, values in get_weights(model).items()
    }
    content = pack_tensors(weights)
    write_atomically(folder / _WEIGHTS, content)
    write_atomically(folder / _CARD, json.dumps(dict(card), indent=2).encode())
    return len(content)


def load_student(folder: Path, model: nn.Module) -> None:
    """Load a saved student's weights into `model`, a model of its architecture.

    Raises:
        DataError: The file is missing or damaged, or is of another architecture.
    """
    weights = read_tensors(folder / _WEIGHTS)
    set_weights(model, {name: v.astype(np.float32) if v.dtype == np.float16 else v for name, v in weights.items()})
