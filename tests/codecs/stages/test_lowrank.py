"""Low rank: what the factors can hold comes back, and a warm start closes in on the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.stages.lowrank import LowRank
from fedcomp.errors import CodecSpecError, FrameMalformed, InvalidValues
from fedcomp.wire import Binding, Frame, Section, SectionKind, StageHeader, write_frame


def product(rank, rows=40, columns=70, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))).astype(np.float32)


def nmse(found, wanted):
    return float(np.square(found.astype(np.float64) - wanted).sum() / np.square(wanted, dtype=np.float64).sum())


def roundtrip(text, delta, previous=None):
    frame = fedcomp.codec(text).encode(delta, previous=previous).frame
    return frame, fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_matrix_of_that_rank_comes_back(rank):
    delta = {"w": product(rank)}
    _, received = roundtrip(f"lowrank(rank={rank}) | float32", delta)
    assert nmse(received["w"], delta["w"]) < 1e-10


def test_vectors_pass_through_and_small_matrices_have_fewer_components():
    rng = np.random.default_rng(1)
    delta = {
        "bias": rng.normal(size=30).astype(np.float32),
        "thin": rng.normal(size=(4, 3)).astype(np.float32),
        "nothing": np.zeros((0, 7), np.float32),
        "w": product(2),
    }
    _, received = roundtrip("lowrank(rank=3) | float32", delta)
    np.testing.assert_array_equal(received["bias"], delta["bias"])
    assert nmse(received["thin"], delta["thin"]) < 1e-10
    assert nmse(received["w"], delta["w"]) < 1e-10


@given(st.integers(1, 6), st.lists(st.lists(st.integers(0, 6), max_size=3), max_size=6))
def test_factors_are_laid_out_without_gaps(rank, shapes):
    spec = fedcomp.ModelSpec.of({f"t{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)})
    cuts = LowRank.cuts_after(layout_of(spec, 0).coded.cuts, (rank,))
    assert cuts.size <= 2 * layout_of(spec, 0).coded.size
    assert cuts.channels[0] == cuts.tensors[0] == 0
    assert cuts.channels[-1] == cuts.tensors[-1]
    assert set(cuts.tensors.tolist()) <= set(cuts.channels.tolist())


def test_the_projection_is_near_the_best_one_and_a_warm_start_closes_in_on_it():
    delta = {"w": product(30) + np.random.default_rng(5).normal(size=(40, 70)).astype(np.float32)}
    singular = np.linalg.svd(delta["w"].astype(np.float64), compute_uv=False)
    best = np.square(singular[3:]).sum() / np.square(singular).sum()
    frame, received = roundtrip("lowrank(rank=3) | float32", delta)
    cold = nmse(received["w"], delta["w"])
    for _ in range(15):
        frame, received = roundtrip("lowrank(rank=3) | float32", delta, frame)
    warm = nmse(received["w"], delta["w"])
    assert best * 0.999 <= warm < cold < 1.3 * best
    assert warm == pytest.approx(best, rel=0.01)


def test_a_warm_start_of_another_model_or_codec_is_passed_over():
    delta, other = {"w": product(5)}, {"w": product(5, rows=41)}
    text = "lowrank(rank=2) | uniform(bits=8)"
    cold, _ = roundtrip(text, delta)
    for foreign in (roundtrip(text, other)[0], roundtrip("uniform(bits=8)", delta)[0]):
        assert roundtrip(text, delta, foreign)[0] == cold


def test_a_start_of_zeros_does_not_stay_zero():
    nothing, _ = roundtrip("lowrank(rank=1) | float32", {"w": np.zeros((40, 70), np.float32)})
    delta = {"w": product(1)}
    _, received = roundtrip("lowrank(rank=1) | float32", delta, nothing)
    assert nmse(received["w"], delta["w"]) < 1e-6


def test_it_can_not_stand_behind_a_sparsifier():
    with pytest.raises(CodecSpecError, match="whole tensors"):
        fedcomp.codec("topk(density=0.1) | lowrank(rank=2) | float32")


SPEC = fedcomp.ModelSpec.of({"w": np.zeros((8, 8), np.float32)})


def frame_of(*stages, values):
    section = Section(SectionKind.VALUES, 0, np.float32(values).tobytes())
    return write_frame(Frame(Binding(), SPEC.fingerprint, stages, (section,)))


@pytest.mark.parametrize("args", [(), (0,), (65,), (1 << 60,), (2, 2), (2, 0, 1), (2, 65, 1), (2, 2, 5), (2, 2, 1, 1)])
def test_impossible_ranks_are_refused(args):
    with pytest.raises(FrameMalformed):
        fedcomp.decode(frame_of(StageHeader(27, args), StageHeader(32), values=[0.0] * 16), SPEC)


def test_a_product_beyond_float32_is_refused():
    left, right = [3e38] + [0.0] * 7, [3e38] * 8
    with pytest.raises(InvalidValues, match="infinite"):
        fedcomp.decode(frame_of(StageHeader(27, (2,)), StageHeader(32), values=left * 2 + right * 2), SPEC)


def test_behind_a_sparsifier_it_is_refused():
    stages = (StageHeader(17, (16, 1)), StageHeader(27, (1,)), StageHeader(32))
    with pytest.raises(FrameMalformed, match="behind a sparsifier"):
        fedcomp.decode(frame_of(*stages, values=[0.0] * 16), SPEC)
