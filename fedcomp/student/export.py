"""ONNX: the student as a file that a phone's runtime reads."""

from __future__ import annotations

import copy
import importlib.metadata
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.fx import GraphModule, Node, Tracer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from fedcomp.student.extra import student_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

_FOLDS: tuple[tuple[tuple[type[nn.Module], ...], Callable[..., nn.Module]], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), fuse_conv_bn_eval),
    ((nn.Linear,), fuse_linear_bn_eval),
)
INPUT, OUTPUT = "images", "logits"
"""Names in the graph: float32 images (B, C, H, W) in [0, 1] in, float32 logits (B, K) out, for any B."""


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy in which each BatchNorm is part of the layer before it; it computes the same, in any mode.

    The copy is what quantization-aware training trains: statistics that move under a quantizer do it no good.

    References:
        Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
        CVPR 2018, section 3.2.
    """
    copied = copy.deepcopy(model).eval()
    traced = GraphModule(copied, _LayerTracer().trace(copied))
    for node in traced.graph.nodes:
        if folded := _fold(node, traced):
            layer = node.args[0]
            traced.set_submodule(str(layer.target), folded, strict=True)
            node.replace_all_uses_with(layer)
            traced.graph.erase_node(node)
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced.requires_grad_()


class _LayerTracer(Tracer):
    """Looks into containers alone: what a layer does may depend on its images' size, which a trace does not know."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not [*m.children()] or super().is_leaf_module(m, module_qualified_name)


def _fold(node: Node, traced: GraphModule) -> nn.Module | None:
    """Return a layer with the BatchNorm of a node in it; None if the node is none, or others use the layer, too."""
    before = node.args[0] if node.op == "call_module" and node.args else None
    if not isinstance(before, Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    layer, norm = (traced.get_submodule(str(each.target)) for each in (before, node))
    if not isinstance(norm, _BatchNorm) or not norm.track_running_stats:
        return None
    if sum(each.target == before.target for each in traced.graph.nodes) > 1:
        return None
    return next((fold(layer, norm) for kinds, fold in _FOLDS if isinstance(layer, kinds)), None)


def export_onnx(model: nn.Module, image_shape: tuple[int, int, int], facts: Mapping[str, str]) -> bytes:
    """Export `model` by torch's dynamo exporter, with a dynamic batch.

    Args:
        model: Anything that torch can export, also converted by quantization-aware training.
        image_shape: Channels, height, width.
        facts: What the file says of itself, such as its classes.

    Returns:
        The file's content, without the exporter's notes on where each node was in the source: they name folders of this
        machine, and take as much as a small student's weights.

    Raises:
        UsageError: The extra is not installed.
    """
    with student_extra():
        example = torch.zeros(2, *image_shape)
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        if program is None:
            raise TypeError("the dynamo exporter returned no program")
        proto = program.model_proto
        _clean(proto)
        describe(proto, facts)
        return bytes(proto.SerializeToString())


def describe(proto: onnx.ModelProto, facts: Mapping[str, str]) -> None:
    """Write who made a model, and what it is, into it."""
    import onnx

    proto.producer_name, proto.producer_version = "fedcomp", importlib.metadata.version("fedcomp")
    onnx.helper.set_model_props(proto, dict(facts))


def _clean(proto: onnx.ModelProto) -> None:
    graph = proto.graph
    graph.ClearField("value_info")
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    _name_constants(graph)


def _name_constants(graph: onnx.GraphProto) -> None:
    """Give constants names that no number behind them turns into another tensor's, as ONNX Runtime's quantizer does.

    It quantizes a copy of ``val_18`` for each further use, named ``val_180``, ``val_181`` and so on.
    """
    names = {constant.name: f"{constant.name}.constant" for constant in graph.initializer if "." not in constant.name}
    for constant in graph.initializer:
        constant.name = names.get(constant.name, constant.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
