"""The rotation, and the one-bit quantizer that it makes unbiased."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.stages.rotate import block_cuts, rotate, rotate_back
from fedcomp.errors import InvalidValues
from fedcomp.wire import Binding, Frame, Section, SectionKind, StageHeader, write_frame


@given(st.integers(0, 40_000), st.integers(0, 2**32))
def test_rotation_is_orthogonal_and_inverts(size, seed):
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)
    rotated = rotate(values, seed)
    assert rotated.size - size < 64
    assert np.square(rotated, dtype=np.float64).sum() == pytest.approx(
        np.square(values, dtype=np.float64).sum(), rel=1e-4
    )
    np.testing.assert_allclose(rotate_back(rotated, size, seed), values, atol=1e-4)


def test_every_output_holds_every_input_of_its_block():
    spike = np.zeros(8192, np.float32)
    spike[4711] = 1
    np.testing.assert_allclose(np.abs(rotate(spike, 1)), 8192**-0.5, rtol=1e-5)


@pytest.mark.parametrize("size", [1_200_000, 1_663_370, 199_210, 10_000])
def test_padding_is_at_most_two_per_cent(size):
    assert block_cuts(size).size <= 1.02 * size


def nmse(text, values, seed):
    delta = {"w": values}
    frame = fedcomp.codec(text).encode(delta, rng=np.random.default_rng(seed)).frame
    error = fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))["w"].astype(np.float64) - values
    return float(np.square(error).sum() / np.square(values, dtype=np.float64).sum())


@pytest.mark.parametrize("source", ["normal", "laplace", "lognormal"])
@pytest.mark.parametrize(
    ("text", "theory"),
    [
        ("rotate | sign(unbiased=true)", np.pi / 2 - 1),
        ("rotate | sign", 1 - 2 / np.pi),
        ("rotate | eden(bits=1)", np.pi / 2 - 1),
        ("rotate | eden(bits=2)", 0.13312),
        ("rotate | eden(bits=2, unbiased=false)", 0.11748),
        ("rotate | eden(bits=4)", 0.009592),
    ],
)
def test_error_is_that_of_the_theory_whatever_the_source(source, text, theory):
    values = getattr(np.random.default_rng(3), source)(size=200_000).astype(np.float32)
    assert nmse(text, values, seed=0) == pytest.approx(theory, rel=0.02)


@pytest.mark.parametrize("text", ["rotate | sign(unbiased=true)", "rotate | eden(bits=2)"])
def test_it_is_unbiased(text):
    values = np.random.default_rng(0).laplace(size=1024).astype(np.float32)
    codec, spec = fedcomp.codec(text), fedcomp.ModelSpec.of({"w": values})
    frames = [codec.encode({"w": values}, rng=np.random.default_rng(seed)).frame for seed in range(500)]
    decoded = np.array([fedcomp.decode(frame, spec)["w"] for frame in frames])
    deviation = (decoded.mean(axis=0) - values) / (decoded.std(axis=0) / np.sqrt(len(decoded)))
    assert np.abs(deviation).max() < 5
    assert np.square(deviation).mean() == pytest.approx(1, abs=0.2)


def test_one_bit_costs_one_bit():
    values = np.random.default_rng(3).normal(size=1_200_000).astype(np.float32)
    frame = fedcomp.codec("rotate | sign(unbiased=true)").encode({"w": values}, rng=np.random.default_rng(0)).frame
    assert 8 * len(frame) / values.size < 1.01


def test_what_overflows_when_rotated_back_is_refused():
    spec = fedcomp.ModelSpec.of({"w": np.zeros(64, np.float32)})
    values = Section(SectionKind.VALUES, 0, np.full(64, 3e38, np.float32).tobytes())
    frame = Frame(Binding(), spec.fingerprint, (StageHeader(24, (1,)), StageHeader(32)), (values,))
    with pytest.raises(InvalidValues, match="infinite behind rotate"):
        fedcomp.decode(write_frame(frame), spec)
