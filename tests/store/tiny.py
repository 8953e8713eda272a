"""A tiny classifier in ONNX, whose labels are its own answers, and its manifest."""

from datetime import UTC, datetime

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedcomp.seeding import derive_rng
from fedcomp.store import Manifest, digest_of, unpack_artifact
from fedcomp.store.artifact import pack_artifact
from fedcomp.store.graph import split_model

SHAPE, CLASSES = (1, 8, 8), 4
CODEC = "keep(below=16) | uniform(bits=8)"


def tiny_model(seed=0, channels=8, **changes):
    """Build convolution, ReLU, convolution, ReLU, pooling, linear layer, as an exporter would: with notes."""
    rng = derive_rng(seed, "tiny")
    shapes = {"conv1": (channels, 1, 3, 3), "bias1": (channels,), "conv2": (channels, channels, 3, 3),
              "linear": (CLASSES, channels), "bias": (CLASSES,)}  # fmt: skip
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    pads = {"pads": [1, 1, 1, 1], "strides": [1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "conv1", "bias1"], ["a"], name="first", doc_string="x" * 500, **pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "conv2"], ["c"], **pads),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "linear", "bias"], ["logits"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *SHAPE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])
    held = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [images], [logits], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def edited(change, content=None):
    """Return a model after a change of its message."""
    model = onnx.ModelProto.FromString(content or tiny_model())
    change(model)
    return model.SerializeToString()


def tiny_images(count=32, seed=0):
    return derive_rng(seed, "images").integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def tiny_artifact(seed=0, channels=8):
    return pack_artifact(split_model(tiny_model(seed, channels)), CODEC, {})


def manifest_of(artifact, name="tiny", **changes):
    content = unpack_artifact(artifact)
    facts = {
        "name": name, "artifact": digest_of(artifact), "artifact_bytes": len(artifact), "weights": digest_of(content),
        "model_bytes": len(content), "original_bytes": len(tiny_model()), "image_shape": SHAPE, "num_classes": CLASSES,
        "codec": CODEC, "created": datetime(2026, 1, 2, tzinfo=UTC), "fedcomp": "0",
    }  # fmt: skip
    return Manifest(**facts | changes)
