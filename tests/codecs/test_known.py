"""Known directions: what both ends hold makes frames smaller, and never makes them ambiguous."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs import CodingContext
from fedcomp.codecs.known import count_directions
from fedcomp.codecs.subspace import expand, leading_directions, orthonormalize, project
from fedcomp.errors import MissingContext, StaleFrame
from fedcomp.types import add_delta, fingerprint_model

CODEC = fedcomp.codec("lowrank(rank=4) | deadzone(step=1)")


def models(seed=0, rows=96, columns=160, rank=4):
    """Return an initial model, a later one, and an update in directions that are mostly those of the way between."""
    rng = np.random.default_rng(seed)
    initial = {"w": rng.normal(size=(rows, columns)), "b": rng.normal(size=rows), "n": np.arange(3)}
    left, right = rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))
    moved = {"w": left @ right, "b": rng.normal(size=rows), "n": np.ones(3, np.int64)}
    delta = {"w": left @ rng.normal(size=(rank, rank)) @ right, "b": rng.normal(size=rows), "n": np.ones(3, np.int64)}
    noise = 0.03 * np.abs(delta["w"]).mean() * rng.normal(size=(rows, columns))
    as_float = {"w": np.float32, "b": np.float32, "n": np.int64}
    initial, moved, delta = (
        {name: np.asarray(v, as_float[name]) for name, v in m.items()} for m in (initial, moved, delta)
    )
    return initial, add_delta(initial, moved), delta | {"w": delta["w"] + noise.astype(np.float32)}


def context(model, *references):
    return CodingContext("run", "client", 3, fingerprint_model(model), model, references)


def nmse(found, wanted):
    return float(np.square(found.astype(np.float64) - wanted).sum() / np.square(wanted, dtype=np.float64).sum())


def test_known_directions_save_bytes_at_less_error():
    initial, model, delta = models()
    spec = fedcomp.ModelSpec.of(model)
    without, with_ = (CODEC.encode(delta, context=c).frame for c in (context(model), context(model, initial)))
    errors = [
        nmse(fedcomp.decode(frame, spec, context=c)["w"], delta["w"])
        for frame, c in ((without, context(model)), (with_, context(model, initial)))
    ]
    assert len(with_) < 0.5 * len(without)
    assert errors[1] < errors[0]


def test_several_references_serve_together():
    initial, model, delta = models()
    other = {**initial, "w": initial["w"] + np.float32(1)}
    frame = CODEC.encode(delta, context=context(model, other, initial)).frame
    received = fedcomp.decode(frame, fedcomp.ModelSpec.of(model), context=context(model, other, initial))
    assert nmse(received["w"], delta["w"]) < 0.05
    np.testing.assert_array_equal(received["n"], delta["n"])


def test_a_frame_is_never_decoded_with_other_models():
    initial, model, delta = models()
    spec = fedcomp.ModelSpec.of(model)
    frame = CODEC.encode(delta, context=context(model, initial)).frame
    changed = {**initial, "b": initial["b"] + np.float32(1e-3)}
    for wrong in (context(model), context(model, changed), context(model, initial, initial), context(initial, initial)):
        with pytest.raises(StaleFrame):
            fedcomp.decode(frame, spec, context=wrong)
    with pytest.raises(MissingContext, match="1 earlier models, the receiver was given 0"):
        fedcomp.decode(frame, spec)


def test_there_may_be_fewer_directions_than_components():
    initial, model, delta = models()
    codec, spec = fedcomp.codec("lowrank(rank=8, directions=2) | deadzone(step=0.1)"), fedcomp.ModelSpec.of(model)
    frame = codec.encode(delta, context=context(model, initial)).frame
    assert nmse(fedcomp.decode(frame, spec, context=context(model, initial))["w"], delta["w"]) < 0.05


def test_a_sender_does_not_choose_rank_or_directions():
    initial, model, delta = models()
    moment, spec = context(model, initial), fedcomp.ModelSpec.of(model)
    for text in ("lowrank(rank=5)", "lowrank(rank=4, directions=17)"):
        frame = fedcomp.codec(f"{text} | deadzone(step=1)").encode(delta, context=moment).frame
        with pytest.raises(fedcomp.FrameError, match="expected those of"):
            fedcomp.decode(frame, spec, context=moment, codec=CODEC)
    for each in (moment, context(model)):
        assert fedcomp.decode(CODEC.encode(delta, context=each).frame, spec, context=each, codec=CODEC)


def test_without_directions_a_codec_makes_no_use_of_references():
    initial, model, delta = models()
    codec = fedcomp.codec("lowrank(rank=4, directions=0) | deadzone(step=1)")
    with_, without = (codec.encode(delta, context=c).frame for c in (context(model, initial), context(model)))
    assert len(with_) == len(without)


def test_models_that_have_not_moved_are_no_help_and_no_harm():
    _, model, delta = models()
    spec = fedcomp.ModelSpec.of(model)
    frame = CODEC.encode(delta, context=context(model, model)).frame
    received = fedcomp.decode(frame, spec, context=context(model, model))
    plain = fedcomp.decode(CODEC.encode(delta).frame, spec)
    assert nmse(received["w"], delta["w"]) == pytest.approx(nmse(plain["w"], delta["w"]), rel=0.2)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(0, 3))
def test_sides_that_are_short_have_no_directions(rows, columns, count, references):
    left, right = count_directions((rows, columns), count, references)
    assert 2 * left <= rows
    assert 2 * right <= columns
    assert {left, right} <= {0, min(count, rows, columns) * references}


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_directions_are_orthonormal_and_coefficients_lead_back(count, seed):
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(12, 3)) @ rng.normal(size=(3, 30))).astype(np.float32)
    for side, found in zip("lr", leading_directions(matrix, count), strict=True):
        directions = orthonormalize(found)
        gram = directions @ directions.T
        used = np.flatnonzero(np.diag(gram) > 0.5)
        assert used.size >= min(count, 3)
        np.testing.assert_allclose(gram[np.ix_(used, used)], np.eye(used.size), atol=1e-6)
        if count >= 3:
            vectors = matrix.T if side == "l" else matrix
            np.testing.assert_allclose(expand(project(vectors, directions), directions), vectors, atol=1e-4)


@given(st.integers(1, 40), st.integers(0, 5), st.floats(-30, 30), st.integers(0, 2**32 - 1))
def test_rows_that_are_nearly_parallel_become_orthonormal(count, decades, exponent, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(1, 200)) + 10.0**-decades * rng.normal(size=(count, 200))) * 10.0**exponent
    rows = orthonormalize(vectors)
    used = np.flatnonzero(rows.any(axis=1))
    assert used.size == count or decades > 3
    np.testing.assert_allclose((rows @ rows.T)[np.ix_(used, used)], np.eye(used.size), atol=1e-5)


def test_a_row_that_depends_on_others_becomes_zeros():
    rows = orthonormalize(np.array([[3.0, 4.0], [6.0, 8.0], [1.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0.8, -0.6]], atol=1e-12)


def test_what_a_context_keeps_does_not_grow_with_the_tensors_that_frames_leave_out():
    """Every sender says which; what is known of the others is as large as they are, and its frame may be tiny."""
    initial = {f"w{i}": np.zeros((64, 64), np.float32) for i in range(16)}
    model = {name: values + np.float32(1) for name, values in initial.items()}
    spec, shared = fedcomp.ModelSpec.of(model), context(model, initial)
    codec = fedcomp.codec("trainable | topk(density=0.0001) | ternary")
    frames = [
        codec.encode(model | {left_out: initial[left_out]}, context=context(model, initial)).frame for left_out in model
    ]
    tracemalloc.start()
    try:
        for frame in frames:
            fedcomp.decode(frame, spec, context=shared)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8 * sum(values.nbytes for values in model.values())
