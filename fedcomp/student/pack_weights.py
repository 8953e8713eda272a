"""Weights of few bits, stored in that many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedcomp.student.extra import student_extra
from fedcomp.student.layer_bits import DEFAULT_BITS, largest_level

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


class _Stored(NamedTuple):
    """How ONNX stores whole numbers of few bits: the type's name, and the first versions that have it."""

    name: str
    opset: int
    ir_version: int


_STORED = {2: _Stored("INT2", 25, 13), 4: _Stored("INT4", 21, 10)}
"""By bits, the fewest first."""


def pack_weights(content: bytes) -> bytes:
    """Store int8 weights in four or two bits where they fit, and where the file gets smaller by it.

    A Cast in the graph makes int8 of them again: a runtime computes it once, when it loads the model, and then has the
    integer kernels of any int8 layer.

    Args:
        content: ONNX, of pairs of QuantizeLinear and DequantizeLinear.

    Returns:
        ONNX that computes the same, of opset 21 if a layer has four bits, of 25 if one has two; else `content`.
    """
    with student_extra():
        import onnx

        model = onnx.load_from_string(content)
        packed = {tensor.name: bits for tensor in model.graph.initializer if (bits := _fewest_bits(tensor))}
        if not packed:
            return content
        stored = [_STORED[bits] for bits in packed.values()]
        model = onnx.version_converter.convert_version(model, max(each.opset for each in stored))
        model.ir_version = max(model.ir_version, *(each.ir_version for each in stored))
        model.graph.ClearField("value_info")
        casts = [_pack(tensor, packed[tensor.name]) for tensor in model.graph.initializer if tensor.name in packed]
        _use_outputs(model, casts)
        return bytes(model.SerializeToString())


def _fewest_bits(tensor: TensorProto) -> int:
    """Return in how many bits weights are best stored; 0 if they are no weights, or best as they are."""
    from onnx import numpy_helper

    if tensor.data_type != tensor.INT8 or len(tensor.dims) < 2:
        return 0
    levels = numpy_helper.to_array(tensor)
    largest = np.abs(levels.astype(np.int16)).max(initial=0)
    bits = next((bits for bits in _STORED if largest <= largest_level(bits)), DEFAULT_BITS)
    saved = levels.size * (DEFAULT_BITS - bits) // 8
    return bits if saved > _cast(tensor.name).ByteSize() else 0


def _pack(tensor: TensorProto, bits: int) -> Any:
    """Store a tensor in `bits` in place, and return the node that makes int8 of it."""
    from onnx import helper, numpy_helper

    narrow = helper.tensor_dtype_to_np_dtype(getattr(type(tensor), _STORED[bits].name))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(narrow), tensor.name))
    return _cast(tensor.name)


def _cast(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [name], [f"{name}_8"], to=TensorProto.INT8)


def _use_outputs(model: ModelProto, casts: list[Any]) -> None:
    """Put nodes before all others, which then take their outputs for their inputs."""
    nodes, renamed = list(model.graph.node), {cast.input[0]: cast.output[0] for cast in casts}
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    model.graph.ClearField("node")
    model.graph.node.extend([*casts, *nodes])
