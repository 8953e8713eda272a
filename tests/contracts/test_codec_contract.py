"""Laws that every codec keeps; the codecs come from the registry."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedcomp
from fedcomp.codecs import CodingContext, decode_update
from fedcomp.codecs.registry import PRESETS, QUANTIZERS, SPARSIFIERS, STAGES, TRANSFORMS
from fedcomp.errors import EncodeError, SpecMismatch, StaleFrame, WrongCodec
from tests.examples import CORNER_CASES, all_codecs, some_delta

CODECS = all_codecs()


def for_every_codec(law):
    """Make one test of a law for all codecs, which tells all that break it: a test each costs more than the law."""

    def test():
        failures = []
        for codec in CODECS:
            try:
                with told_of(codec):
                    law(codec)
            except (Exception, pytest.fail.Exception) as failure:
                failures.append(failure)
        if failures:
            raise BaseExceptionGroup(f"{len(failures)} of {len(CODECS)} codecs break the law", failures)

    test.__name__, test.__doc__ = law.__name__, law.__doc__
    return test


@contextlib.contextmanager
def told_of(case):
    """Add to a failure which of a test's cases it was."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"case: {case}")
        raise


def encode(codec, delta, seed=0, context=None, previous=None):
    return codec.encode(delta, rng=np.random.default_rng(seed), context=context, previous=previous)


@for_every_codec
def test_text_reads_back_to_the_same_codec(codec):
    assert fedcomp.codec(str(codec)) == codec


@for_every_codec
def test_corner_cases_come_back_with_names_shapes_and_finite_values(codec):
    for case, delta in CORNER_CASES.items():
        with told_of(case):
            decoded = fedcomp.decode(encode(codec, delta).frame, fedcomp.ModelSpec.of(delta))
            assert list(decoded) == list(delta)
            for name, values in delta.items():
                assert decoded[name].shape == values.shape
                assert np.isfinite(decoded[name]).all()
                if values.dtype.kind == "i":
                    assert decoded[name].dtype == np.int64
                    np.testing.assert_array_equal(decoded[name], values)
                else:
                    assert decoded[name].dtype == np.float32


@for_every_codec
def test_ledger_sums_to_the_frames_length(codec):
    encoded = encode(codec, some_delta())
    assert encoded.ledger.total == len(encoded.frame)


@for_every_codec
def test_same_input_and_seed_give_the_same_bytes(codec):
    assert encode(codec, some_delta(), seed=3).frame == encode(codec, some_delta(), seed=3).frame


@for_every_codec
def test_what_was_sent_before_matters_only_where_declared(codec):
    before, delta = encode(codec, some_delta(seed=8)).frame, some_delta(seed=9)
    cold, warm = encode(codec, delta).frame, encode(codec, delta, previous=before).frame
    assert (cold == warm) == codec.is_stateless or not codec.is_stateless
    assert fedcomp.decode(warm, fedcomp.ModelSpec.of(delta)).keys() == delta.keys()


@for_every_codec
def test_zeros_decode_to_zeros(codec):
    delta = {"w": np.zeros((5, 7), np.float32)}
    assert not fedcomp.decode(encode(codec, delta).frame, fedcomp.ModelSpec.of(delta))["w"].any()


@for_every_codec
def test_values_that_are_not_finite_are_refused_by_name(codec):
    for bad in (np.nan, np.inf, -np.inf):
        delta = {"fine": np.ones(5, np.float32), "broken": np.float32([0, 0, 0, 0, bad])}
        with told_of(bad), pytest.raises(EncodeError, match="broken"):
            encode(codec, delta)


@for_every_codec
def test_input_is_not_changed(codec):
    delta, before = some_delta(), some_delta()
    encode(codec, delta)
    for name in delta:
        np.testing.assert_array_equal(delta[name], before[name])


@for_every_codec
def test_accumulating_equals_decoding(codec):
    delta = some_delta()
    spec = fedcomp.ModelSpec.of(delta)
    frame = encode(codec, delta).frame
    total = {name: np.zeros(values.size) for name, values in delta.items()}
    decode_update(frame, spec).add_to(total, 0.5)
    for name, values in fedcomp.decode(frame, spec).items():
        np.testing.assert_array_equal(total[name], 0.5 * values.reshape(-1).astype(np.float64))


@for_every_codec
def test_error_feedback_loses_nothing(codec):
    """What was received, plus the residual, is the sum of all updates."""
    feedback, residual, received, sent = fedcomp.ErrorFeedback(), None, 0.0, 0.0
    for step in range(4):
        delta = {"w": some_delta(step)["weight"]}
        total = feedback.compensate(delta, residual)
        decoded = fedcomp.decode(encode(codec, total, seed=step).frame, fedcomp.ModelSpec.of(delta))
        residual = feedback.residual(total, decoded)
        received, sent = received + decoded["w"].astype(np.float64), sent + delta["w"].astype(np.float64)
    np.testing.assert_allclose(received + residual["w"], sent, atol=1e-6)


@for_every_codec
def test_frame_is_bound_to_model_and_moment(codec):
    delta = some_delta()
    spec = fedcomp.ModelSpec.of(delta)
    moment = CodingContext(run="r", sender="a", round=3, base=77)
    frame = encode(codec, delta, context=moment).frame
    fedcomp.decode(frame, spec, context=moment)
    with pytest.raises(SpecMismatch):
        fedcomp.decode(frame, fedcomp.ModelSpec(spec.tensors[:-1]))
    assert fedcomp.decode(frame, spec, codec=codec).keys() == delta.keys()
    with pytest.raises(WrongCodec):
        fedcomp.decode(frame, spec, codec=fedcomp.codec("float32" if str(codec) != "float32" else "float16"))
    for other in (
        CodingContext("r", "a", 4, 77),
        CodingContext("r", "b", 3, 77),
        CodingContext("q", "a", 3, 77),
        CodingContext("r", "a", 3, 78),
    ):
        with pytest.raises(StaleFrame):
            fedcomp.decode(frame, spec, context=other)


@settings(max_examples=150, deadline=None)
@given(
    values=hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=3, max_side=12), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    ),
    codec=st.sampled_from(CODECS),
)
def test_any_finite_array_comes_back_finite(values, codec):
    delta = {"w": values}
    encoded = encode(codec, delta)
    decoded = fedcomp.decode(encoded.frame, fedcomp.ModelSpec.of(delta))["w"]
    assert decoded.shape == values.shape
    assert np.isfinite(decoded).all()
    assert encoded.ledger.total == len(encoded.frame)


def test_every_wire_id_has_one_decoder():
    ids = [stage.wire_id for stage in STAGES.values() if hasattr(stage, "wire_id")]
    assert len(set(ids)) == len(ids)
    assert all(16 <= id_ < 24 for id_ in SPARSIFIERS)
    assert all(24 <= id_ < 32 for id_ in TRANSFORMS)
    assert all(id_ >= 32 for id_ in QUANTIZERS)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_parse_and_a_preset_is_not_a_stage(preset):
    assert preset not in STAGES
    assert str(fedcomp.codec(preset)) == PRESETS[preset]


@for_every_codec
def test_declared_error_bound_holds(codec):
    for case in ("mixed", "one spike", "many ties", "wide", "denormal"):
        delta = {name: values for name, values in CORNER_CASES[case].items() if values.dtype.kind == "f"}
        decoded = fedcomp.decode(encode(codec, delta).frame, fedcomp.ModelSpec.of(delta))
        error = sum(float(np.square(decoded[n].astype(np.float64) - delta[n]).sum()) for n in delta)
        norm = sum(float(np.square(delta[n].astype(np.float64)).sum()) for n in delta)
        rounding = 1e-12 if codec.transform else 0.0
        with told_of(case):
            assert error <= (codec.error_bound * (1 + 1e-3) + rounding) * norm + 1e-70


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec.is_unbiased and not codec.keep.below], ids=str)
def test_declared_unbiasedness_holds(codec):
    values = some_delta(5)["weight"]
    spec = fedcomp.ModelSpec.of({"w": values})
    frames = [encode(codec, {"w": values}, seed).frame for seed in range(1000)]
    decoded = np.array([fedcomp.decode(frame, spec)["w"] for frame in frames], np.float64)
    spread = decoded.std(axis=0) / np.sqrt(len(decoded))
    assert (np.abs(decoded.mean(axis=0) - values) <= 5 * spread + 1e-6 * np.abs(values).max()).all()


def test_some_codecs_are_unbiased_and_some_contract():
    assert sum(codec.is_unbiased for codec in CODECS) >= 3
    assert sum(codec.error_bound <= 1 for codec in CODECS) >= 20


@for_every_codec
def test_layout_and_type_of_the_input_do_not_matter(codec):
    """Transposed, big-endian and strided arrays give the bytes of their plain copies."""
    base = np.random.default_rng(3).normal(size=(12, 10)).astype(np.float32)
    frame = encode(codec, {"w": np.ascontiguousarray(base.T)}).frame
    assert encode(codec, {"w": base.T}).frame == frame
    assert encode(codec, {"w": base.T.astype(">f4")}).frame == frame
    assert encode(codec, {"w": np.repeat(base.T, 2, axis=1)[:, ::2]}).frame == frame
    assert encode(codec, {"w": base.T.astype(np.float64)}).frame == frame


def test_integers_beyond_int64_are_refused_by_name():
    delta = {"w": np.zeros(3, np.float32), "steps": np.array([0, 2**63], np.uint64)}
    with pytest.raises(EncodeError, match="steps"):
        fedcomp.codec("float32").encode(delta)
    delta["steps"][1] -= 1
    frame = fedcomp.codec("float32").encode(delta).frame
    assert fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))["steps"].tolist() == [0, 2**63 - 1]
