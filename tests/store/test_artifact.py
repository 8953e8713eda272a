"""Artifacts: what comes back, and that nothing else does."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fedcomp.errors import ArtifactError
from fedcomp.store import LoadedModel, artifact_pb2, pack_artifact, unpack_artifact
from fedcomp.store.fields import has_more_fields
from fedcomp.store.graph import SplitModel, join_model, parse_onnx, split_model
from tests.store.tiny import CLASSES, CODEC, edited, tiny_artifact, tiny_images, tiny_model


def test_a_model_without_its_notes_answers_the_same():
    content, images = tiny_model(), tiny_images()
    model = split_model(content)
    joined = join_model(parse_onnx(model.skeleton), model.weights)
    assert len(joined) < len(content) - 500
    np.testing.assert_array_equal(LoadedModel(joined).logits(images), LoadedModel(content).logits(images))
    assert split_model(joined).skeleton == model.skeleton


@pytest.mark.parametrize("number", range(2, 16))
def test_an_output_that_is_called_by_a_number_is_no_other_value(number):
    def rename(model):
        model.graph.output[0].name = model.graph.node[-1].output[0] = str(number)

    content = edited(rename)
    model = split_model(content)
    joined = join_model(parse_onnx(model.skeleton), model.weights)
    assert np.array_equal(LoadedModel(joined).logits(tiny_images()), LoadedModel(content).logits(tiny_images()))
    assert split_model(joined).skeleton == model.skeleton


def test_floats_come_back_exactly_and_eight_bits_nearly():
    content, images = tiny_model(), tiny_images()
    exact = LoadedModel(content).logits(images)
    lossless, q8 = (unpack_artifact(pack_artifact(split_model(content), c, {})) for c in ("lossless", CODEC))
    np.testing.assert_array_equal(LoadedModel(lossless).logits(images), exact)
    np.testing.assert_allclose(LoadedModel(q8).logits(images), exact, atol=0.05 * np.abs(exact).max())


def test_artifacts_of_earlier_releases_are_read():
    golden = (Path(__file__).parent / "golden" / "v1.fcm").read_bytes()
    images = tiny_images()
    found = LoadedModel(unpack_artifact(golden)).logits(images)
    np.testing.assert_allclose(found, LoadedModel(unpack_artifact(tiny_artifact())).logits(images), atol=1e-4)


def test_gains_are_undone():
    model = split_model(tiny_model())
    names = list(model.weights)
    gained = pack_artifact(model, "lossless", {names[0]: 9, names[1]: -160})
    for name, values in split_model(unpack_artifact(gained)).weights.items():
        np.testing.assert_allclose(values, model.weights[name], rtol=1e-6)


def test_a_float_batch_is_as_good_as_bytes():
    model, images = LoadedModel(tiny_model()), tiny_images()
    np.testing.assert_allclose(model.logits(images.astype(np.float32) / 255), model.logits(images), rtol=1e-5)
    assert model.logits(images).shape == (len(images), CLASSES)


def test_every_cut_and_every_flip_is_refused_or_another_model_of_the_same_shape():
    """Here without the digest, which finds each of them before: a stranger can compute it again."""
    artifact, spec = tiny_artifact(), {n: v.shape for n, v in split_model(tiny_model()).weights.items()}
    for end in range(0, len(artifact), 7):
        with pytest.raises(ArtifactError):
            unpack_artifact(artifact[:end])
    for position in range(0, len(artifact), 3):
        flipped = bytearray(artifact)
        flipped[position] ^= 1 << position % 8
        try:
            content = unpack_artifact(bytes(flipped))
        except ArtifactError:
            continue
        assert {n: v.shape for n, v in split_model(content).weights.items()} == spec


def hostile(**fields):
    message = artifact_pb2.Artifact.FromString(tiny_artifact()[4:])
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(message, name)[:] = value
        else:
            setattr(message, name, value)
    return b"fcm\x01" + message.SerializeToString()


def test_what_a_stranger_claims_is_checked():
    bomb = b"\x28\xb5\x2f\xfd\xa0" + (1 << 30).to_bytes(4, "little")  # a zstd frame that declares a gigabyte
    for artifact, what in (
        (b"", "begins with"),
        (hostile(skeleton=bomb), "declares 1073741824 bytes"),
        (hostile(gains=[0, 0]), "2 gains for 4 tensors"),
        (hostile(gains=[1000, 0, 0, 0]), "beyond 160"),
        (hostile(frame=b""), "weights are refused"),
        (hostile(skeleton=artifact_pb2.Artifact.FromString(tiny_artifact(channels=9)[4:]).skeleton), "wrong-model"),
    ):
        with pytest.raises(ArtifactError, match=what):
            unpack_artifact(artifact)


def hostile_skeleton(graph):
    model = ModelProto(ir_version=8, graph=graph).SerializeToString()
    packed = pack_artifact(SplitModel(model, {"w": np.zeros(8, np.float32)}), CODEC, {})
    return artifact_pb2.Artifact.FromString(packed[4:]).skeleton


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (GraphProto(node=[NodeProto()] * 200_000), "more fields than the 131072"),
        (GraphProto(node=[NodeProto(attribute=[AttributeProto()] * 200_000)]), "more fields than the 131072"),
        (GraphProto(initializer=[TensorProto(int64_data=[0] * 200_000)]), "more fields than the 131072"),
        (GraphProto(initializer=[TensorProto(data_type=1, dims=[2**62] * 100_000)]), "100000 dimensions, at most 16"),
    ],
    ids=["nodes", "attributes", "packed numbers", "dimensions"],
)
def test_a_bomb_in_a_skeleton_is_refused_before_it_takes_memory_or_time(graph, what):
    artifact = hostile(skeleton=hostile_skeleton(graph))
    assert len(artifact) < 3000
    with pytest.raises(ArtifactError, match=what):
        unpack_artifact(artifact)


def test_fields_are_counted_as_protobuf_has_them():
    content, kind = tiny_model(), ModelProto.DESCRIPTOR
    assert not has_more_fields(content, kind, 129)
    assert has_more_fields(content, kind, 128)
    for damaged in (content[:-1], b"\x0b", b"\x3a\x05\x0a\x00", b"\xff" * 11):
        with pytest.raises(DecodeError):
            has_more_fields(damaged, kind, 1000)


def test_a_model_of_thousands_of_nodes_is_stored():
    def lengthen(model):
        last = model.graph.node[-1]
        inputs = [last.input[0], *map(str, range(5000))]
        last.input[0] = inputs[-1]
        relus = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(inputs)]
        nodes = [*model.graph.node[:-1], *relus, last]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    unpacked = unpack_artifact(pack_artifact(split_model(edited(lengthen)), CODEC, {}))
    assert len(parse_onnx(unpacked).graph.node) == 5007


def put_outside(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def loop(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["a"], ["z"], then_branch=body, else_branch=body))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (put_outside, "other files"),
        (loop, "subgraph"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.evil"), "com.evil"),
        (lambda m: m.functions.add(name="f"), "functions"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Nonsense"), "operator"),
        (lambda m: m.graph.initializer[0].dims.append(1 << 40), "do not fit"),
    ],
)
def test_models_that_are_no_plain_computation_are_refused(change, what):
    with pytest.raises(ArtifactError, match=what):
        split_model(edited(change))


def test_models_that_are_no_classifiers_of_images_are_refused():
    with pytest.raises(ArtifactError, match="expected"):
        LoadedModel(edited(lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop()))
    with pytest.raises(ArtifactError, match="no ONNX"):
        LoadedModel(b"nonsense")

    def break_weights(model):
        model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.zeros((2, 5, 3, 3), np.float32), "conv2"))

    with pytest.raises(ArtifactError):
        LoadedModel(edited(break_weights)).logits(tiny_images(1))
