"""Models to serve: networks of a student's shape and size, with random weights."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from math import prod

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from fedcomp.seeding import derive_rng
from fedcomp.store import Manifest, ModelStore, digest_of, pack_artifact, unpack_artifact
from fedcomp.store.graph import split_model

IMAGE_SHAPE, NUM_CLASSES = (1, 28, 28), 10
CODEC = "keep(below=64) | uniform(bits=4)"
_CHANNELS = (1, 16, 32, 32)
_OPSET, _IR_VERSION = 20, 10


def fill_store(store: ModelStore, num_models: int) -> list[str]:
    """Put models into a store and return their names."""
    names = [f"student-{number}" for number in range(num_models)]
    for seed, name in enumerate(names):
        content = build_student(seed)
        artifact = pack_artifact(split_model(content), CODEC, {})
        decoded = unpack_artifact(artifact)
        manifest = Manifest(
            name=name,
            artifact=digest_of(artifact),
            artifact_bytes=len(artifact),
            weights=digest_of(decoded),
            model_bytes=len(decoded),
            original_bytes=len(content),
            image_shape=IMAGE_SHAPE,
            num_classes=NUM_CLASSES,
            codec=CODEC,
            created=datetime.now(UTC),
            fedcomp=version("fedcomp"),
        )
        store.put(manifest, artifact)
    return names


def build_student(seed: int) -> bytes:
    """Return the ONNX of what ``student-cnn`` is once its norms are folded: three convolutions, a linear layer."""
    rng = derive_rng(seed, "served")
    weights = {}

    def hold(name: str, *shape: int) -> str:
        weights[name] = (rng.standard_normal(shape) / np.sqrt(prod(shape[1:]))).astype(np.float32)
        return name

    nodes, source = [], "images"
    for layer, (ins, outs) in enumerate(pairwise(_CHANNELS)):
        inputs = [source, hold(f"weight{layer}", outs, ins, 3, 3), hold(f"bias{layer}", outs)]
        nodes.append(helper.make_node("Conv", inputs, [f"conv{layer}"], pads=[1, 1, 1, 1], strides=[1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [source := f"relu{layer}"]))
        if layer == 1:
            inputs, source = [source], "pooled"
            nodes.append(helper.make_node("MaxPool", inputs, [source], kernel_shape=[2, 2], strides=[2, 2]))
    nodes += [
        helper.make_node("AveragePool", [source], ["means"], kernel_shape=[7, 7], strides=[7, 7]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node(
            "Gemm", ["flat", hold("linear", NUM_CLASSES, 128), hold("bias", NUM_CLASSES)], ["logits"], transB=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *IMAGE_SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", NUM_CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
