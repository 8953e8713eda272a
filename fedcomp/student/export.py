"""ONNX: the student as a file that a phone's runtime reads."""

from __future__ import annotations

import copy
import importlib.metadata
from typing import TYPE_CHECKING

import torch

from fedcomp.student.extra import student_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from torch import nn

INPUT, OUTPUT = "images", "logits"
"""Names in the graph: float32 images (B, C, H, W) in [0, 1] in, float32 logits (B, K) out, for any B."""


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy in which each BatchNorm is part of the convolution before it; it computes the same, in any mode.

    The copy is what quantization-aware training trains: statistics that move under a quantizer do it no good.

    References:
        Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
        CVPR 2018, section 3.2.
    """
    with student_extra():
        from torch.fx.experimental.optimization import fuse

        folded: nn.Module = fuse(copy.deepcopy(model).eval())
    return folded.requires_grad_()


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
