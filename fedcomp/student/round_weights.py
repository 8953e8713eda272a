"""Weights of few bits, rounded so that outputs change least."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.errors import UsageError
from fedcomp.store.grams import input_grams
from fedcomp.store.graph import parse_onnx
from fedcomp.store.layers import find_layers
from fedcomp.store.rounding import round_compensated
from fedcomp.student.extra import student_extra
from fedcomp.student.layer_bits import largest_level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.types import NDArray

_GRAM_IMAGES = 256
_CLIPS = np.linspace(0.3, 1.0, 36)


class RoundedModel(NamedTuple):
    """A float32 model some of whose weights are whole multiples of a step.

    Args:
        content: ONNX.
        steps: By the name of weights, one an output channel: (channels,).
    """

    content: bytes
    steps: dict[str, NDArray]


def round_weights(content: bytes, images: NDArray, bits: Mapping[str, int]) -> RoundedModel:
    """Round some layers' weights to few bits, symmetric, with one step an output channel.

    The step is the one of the least squared error of the channel's outputs if inputs were uncorrelated. What rounding
    one weight does to the outputs, later weights of the channel make up for, see `round_compensated`; not in layers
    with groups, whose weights are rounded to the nearest level.

    Args:
        content: A float32 model, ONNX.
        images: uint8 (N, C, H, W), of which the first 256 show what layers are given; no labels are needed.
        bits: By the name of weights whose first axis is the channels, 2 to 8 each.

    Raises:
        UsageError: The graph has no such weights: the exporter made others of them.

    References:
        Frantar et al., GPTQ, ICLR 2023, section 3; Nagel et al., A White Paper on Neural Network Quantization, 2021,
        section 3.1 (ranges by squared error).
    """
    with student_extra():
        from onnx import numpy_helper

        model = parse_onnx(content)
        tensors = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in bits}
        if missing := sorted(bits.keys() - tensors.keys()):
            raise UsageError(f"student-bits: the ONNX graph has no weights {', '.join(missing)}, leave them at 8")
        weights = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
        grams = input_grams(content, find_layers(model, weights), images[:_GRAM_IMAGES])
        steps = {}
        for name, values in weights.items():
            rows, largest = values.reshape(len(values), -1), largest_level(bits[name])
            gram = grams.get(name, np.eye(rows.shape[1]))
            steps[name] = _best_steps(rows, np.diag(gram), largest)
            rounded = round_compensated(rows, gram, steps[name], zone=0.0, largest=largest)
            tensors[name].CopyFrom(numpy_helper.from_array(rounded.reshape(values.shape), name))
        return RoundedModel(model.SerializeToString(), steps)


def _best_steps(rows: NDArray, importance: NDArray, largest: int) -> NDArray:
    """Return each row's step: of those that clip more or less of it, the one of the least weighted squared error."""
    widest = np.abs(rows).max(axis=1) / largest
    widest[widest == 0] = 1
    steps = np.stack([clip * widest for clip in _CLIPS])
    errors = []
    for step in steps[:, :, None]:
        levels = np.rint(rows / step).clip(-largest, largest)
        errors.append((np.square(levels * step - rows) * importance).sum(axis=1))
    return np.asarray(steps[np.argmin(errors, axis=0), np.arange(len(rows))], np.float32)
