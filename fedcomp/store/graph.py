"""An ONNX model in two parts: its floating-point weights, and all else.

What a stranger's model could do beside computing is refused here: read files (external data), bring code of its own
(other operator domains, functions) or run for ever (loops and other subgraphs).
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedcomp.errors import ArtifactError, UsageError
from fedcomp.store.fields import has_more_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

    from fedcomp.types import Model

MAX_MODEL_BYTES = 1 << 28
"""Longest model, in bytes of ONNX, that is read or made."""

_MAX_FIELDS = 1 << 17
"""Of a model's message: a mobilenet-v2 has 5,801, and 414 nodes; memory is at most some 300 bytes a field."""
_MAX_RANK = 16
_FEWEST_WEIGHTS = 8
"""Smaller tensors are constants of operators: they stay as they are."""
_STANDARD_DOMAINS = ("", "ai.onnx")


class ModelFace(NamedTuple):
    """What a caller sees of a model.

    Args:
        input_name: Of the images, float32 in [0, 1].
        image_shape: Channels, height, width.
        output_name: Of the logits.
        num_classes: Length of a row of them.
    """

    input_name: str
    image_shape: tuple[int, int, int]
    output_name: str
    num_classes: int


class SplitModel(NamedTuple):
    """A model in two parts.

    Args:
        skeleton: The ONNX model without its weights: graph, shapes, small constants.
        weights: Floating tensors by name, float32, in the skeleton's order.
    """

    skeleton: bytes
    weights: Model


def parse_onnx(content: bytes) -> ModelProto:
    """Parse an ONNX model and refuse what is no plain computation.

    Raises:
        ArtifactError: It is none, is too large, or has external data, other operator domains, functions, subgraphs, or
            tensors of very many dimensions.
    """
    onnx = _load_onnx()
    from google.protobuf.message import DecodeError

    if len(content) > MAX_MODEL_BYTES:
        raise ArtifactError(f"model has {len(content)} bytes, at most {MAX_MODEL_BYTES} are allowed")
    try:
        if has_more_fields(content, onnx.ModelProto.DESCRIPTOR, _MAX_FIELDS):
            raise ArtifactError(f"model has more fields than the {_MAX_FIELDS} that are allowed")
        model: ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ArtifactError(f"model is no ONNX: {error}") from None
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise ArtifactError("model has functions, training steps or sparse tensors: only a plain graph can be stored")
    if foreign := sorted({node.domain for node in model.graph.node} - set(_STANDARD_DOMAINS)):
        raise ArtifactError(f"model has operators of {foreign[:3]}: only standard ONNX can be stored")
    for attribute in (attribute for node in model.graph.node for attribute in node.attribute):
        if attribute.HasField("g") or attribute.graphs:
            raise ArtifactError(f"model has a subgraph in {attribute.name!r}: only a plain graph can be stored")
    if any(tensor.data_location or tensor.external_data for tensor in _tensors(model.graph)):
        raise ArtifactError("model keeps tensors in other files: only one whole file can be stored")
    if (rank := max((len(tensor.dims) for tensor in _tensors(model.graph)), default=0)) > _MAX_RANK:
        raise ArtifactError(f"model has a tensor of {rank} dimensions, at most {_MAX_RANK} are allowed")
    return model


def face_of(model: ModelProto) -> ModelFace:
    """Return what a caller sees of a model.

    Raises:
        ArtifactError: It is no classifier of images: one input (N, C, H, W) and one output (N, K), both float32.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    shapes = [_shape(value.type.tensor_type) for value in (*inputs, *model.graph.output)]
    match shapes:
        case [[_, int(channels), int(height), int(width)], [_, int(num_classes)]]:
            shape = (channels, height, width)
            return ModelFace(inputs[0].name, shape, model.graph.output[0].name, num_classes)
        case _:
            raise ArtifactError(
                f"model has float inputs and outputs of shapes {shapes}, expected (N, C, H, W) and (N, K)"
            )


def split_model(content: bytes) -> SplitModel:
    """Take the weights out of an ONNX model, and what no computation needs: names, notes, inferred shapes.

    Raises:
        ArtifactError: See `parse_onnx`; or a weight's data does not fit its shape.
    """
    onnx = _load_onnx()
    model = parse_onnx(content)
    _strip(model, {value.name for value in (*model.graph.input, *model.graph.output)})
    weights = {}
    for tensor in filter(_is_weight, model.graph.initializer):
        try:
            weights[tensor.name] = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor), np.float32)
        except ValueError as error:
            raise ArtifactError(f"weights {tensor.name!r} do not fit their shape: {error}") from None
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    return SplitModel(model.SerializeToString(deterministic=True), weights)


def weight_shapes(skeleton: ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights that are missing in a skeleton.

    Raises:
        ArtifactError: Together they are too large, or a name stands twice.
    """
    missing = list(filter(_is_weight, skeleton.graph.initializer))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in missing}
    num_bytes = sum(4 * prod(shape) for shape in shapes.values())
    if len(shapes) != len(missing) or num_bytes > MAX_MODEL_BYTES:
        raise ArtifactError(
            f"model of {num_bytes} bytes, at most {MAX_MODEL_BYTES} are allowed; or a name stands twice"
        )
    return shapes


def join_model(skeleton: ModelProto, weights: Model) -> bytes:
    """Return the ONNX model that has these weights; inverts `split_model` up to what that strips."""
    whole = type(skeleton)()
    whole.CopyFrom(skeleton)
    for tensor in whole.graph.initializer:
        if tensor.name in weights:
            tensor.raw_data = weights[tensor.name].astype("<f4").tobytes()
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def _is_weight(tensor: TensorProto) -> bool:
    return (
        tensor.data_type == tensor.FLOAT and min(tensor.dims, default=0) >= 0 and prod(tensor.dims) >= _FEWEST_WEIGHTS
    )


def _tensors(graph: GraphProto) -> Iterable[TensorProto]:
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)


def _shape(tensor_type: Any) -> list[int | str] | None:
    """Return a float32 tensor's lengths, or names where they are open; None for another type."""
    if tensor_type.elem_type != 1:
        return None
    return [each.dim_value or each.dim_param for each in tensor_type.shape.dim]


def _strip(model: ModelProto, kept: set[str]) -> None:
    """Remove what the graph computes the same without, and give short names to what only the graph itself calls."""
    for field in ("producer_name", "producer_version", "doc_string", "metadata_props", "model_version", "domain"):
        model.ClearField(field)
    graph = model.graph
    for field in ("value_info", "doc_string", "metadata_props", "quantization_annotation"):
        graph.ClearField(field)
    names = {name: name for name in kept} | {"": ""}
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    for tensor in graph.initializer:
        tensor.name = _rename(names, tensor.name, kept)
    for node in graph.node:
        for field in ("name", "doc_string", "metadata_props", "overload"):
            node.ClearField(field)
        node.input[:] = [_rename(names, name, kept) for name in node.input]
        node.output[:] = [_rename(names, name, kept) for name in node.output]
        _drop_defaults(model, node)


def _rename(names: dict[str, str], name: str, kept: set[str]) -> str:
    short = str(len(names))
    while short in kept:  # exporters call an output by a number, too
        short += "_"
    return names.setdefault(name, short)


def _drop_defaults(model: ModelProto, node: NodeProto) -> None:
    """Remove the attributes that say what the operator's definition says without them."""
    onnx = _load_onnx()
    version = next((each.version for each in model.opset_import if each.domain in _STANDARD_DOMAINS), 1)
    try:
        declared = onnx.defs.get_schema(node.op_type, version, "").attributes
    except onnx.defs.SchemaError as error:
        raise ArtifactError(f"model has an operator that ONNX {version} has not: {error}") from None
    kept = [a for a in node.attribute if not (a.name in declared and _same(a, declared[a.name].default_value))]
    del node.attribute[:]
    node.attribute.extend(kept)


def _same(found: AttributeProto, default: AttributeProto) -> bool:
    return default.type == found.type and default.SerializeToString() == found.SerializeToString()


def _load_onnx() -> Any:
    try:
        import onnx
        import onnx.defs
        import onnx.numpy_helper
    except ImportError:
        raise UsageError("stored models need onnx: pip install 'fedcomp[serve]'") from None
    return onnx
