"""The convolutions and linear layers of an ONNX graph, and what goes into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto

    from fedcomp.types import Model, NDArray


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer.

    Args:
        weight: Name of its weights; the first axis is the outputs.
        source: Name of its input.
        kernel: Of a convolution; None for a linear layer.
    """

    weight: str
    source: str
    kernel: Kernel | None

    def gram(self, inputs: NDArray) -> NDArray:
        """Return the Gram matrix of what the weights are multiplied with, float64."""
        columns = self.kernel.unfold(inputs) if self.kernel else inputs
        columns = columns.astype(np.float64)
        return np.asarray(columns.T @ columns)


@dataclass(frozen=True, slots=True)
class Kernel:
    """How a convolution looks at its input: height and width of each."""

    size: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]

    def unfold(self, images: NDArray) -> NDArray:
        """Return the patches of images (N, C, H, W), a row each: (patches, C * height * width)."""
        top, left, bottom, right = self.pads
        padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
        reach = tuple((size - 1) * gap + 1 for size, gap in zip(self.size, self.dilations, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
        windows = windows[:, :, :: self.strides[0], :: self.strides[1], :: self.dilations[0], :: self.dilations[1]]
        channels, height, width = windows.shape[1], *windows.shape[4:]
        return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * height * width)


def find_layers(model: ModelProto, weights: Model) -> list[Layer]:
    """Return the layers whose outputs are rows of weights times their input, in the graph's order.

    Convolutions with groups, and layers that share their weights, are not among them.
    """
    uses = [name for node in model.graph.node for name in node.input]
    return [
        layer
        for node in model.graph.node
        if len(node.input) > 1 and node.input[1] in weights and uses.count(node.input[1]) == 1
        for layer in _READERS.get(node.op_type, _read_nothing)(node, weights)
    ]


def _read_convolution(node: NodeProto, weights: Model) -> Iterator[Layer]:
    attributes = {each.name: each for each in node.attribute}
    shape = weights[node.input[1]].shape
    is_grouped = "group" in attributes and attributes["group"].i != 1
    if len(shape) != 4 or is_grouped or ("auto_pad" in attributes and attributes["auto_pad"].s != b"NOTSET"):
        return
    lengths = {name: tuple(attribute.ints) for name, attribute in attributes.items()}
    top, left, bottom, right = lengths.get("pads", (0, 0, 0, 0))
    (down, across), (gap_down, gap_across) = lengths.get("strides", (1, 1)), lengths.get("dilations", (1, 1))
    kernel = Kernel((shape[2], shape[3]), (down, across), (top, left, bottom, right), (gap_down, gap_across))
    yield Layer(node.input[1], node.input[0], kernel)


def _read_linear(node: NodeProto, weights: Model) -> Iterator[Layer]:
    attributes = {each.name: each.i if each.type == each.INT else each.f for each in node.attribute}
    if attributes.get("transB") and not attributes.get("transA") and attributes.get("alpha", 1) == 1:
        yield Layer(node.input[1], node.input[0], None)


def _read_nothing(node: NodeProto, weights: Model) -> Iterator[Layer]:
    yield from ()


_READERS = {"Conv": _read_convolution, "Gemm": _read_linear}
