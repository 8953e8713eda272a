"""Arbitrary well-formed frames: any stages, any arguments, sections that fit them or do not."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import fedcomp
from fedcomp.wire import Binding, Frame, Section, SectionKind, StageHeader, write_frame
from tests.attacks.check import outcome_of
from tests.attacks.forge import EDGES, STAGE_IDS, sections_fitting
from tests.examples import CORNER_CASES
from tests.golden.make import golden_model

SPECS = [fedcomp.ModelSpec.of(model) for model in (golden_model(), *CORNER_CASES.values())]

small = st.integers(0, 300)
args = st.lists(small | st.sampled_from(EDGES), max_size=4).map(tuple)
scale = st.sampled_from([(0,), (1,), (2,), (3, 8), (3, 1 << 20)])
seed = st.integers(0, 2**64 - 1)


def stage(wire_id, *arguments):
    return st.tuples(*arguments).map(
        lambda parts: StageHeader(
            wire_id, tuple(n for part in parts for n in (part if isinstance(part, tuple) else (part,)))
        )
    )


trainable = stage(2, st.integers(1, 63))
keep = stage(1, small | st.sampled_from(EDGES), st.sampled_from([16, 32]))
sparsifier = st.one_of(stage(17, small, seed), *(stage(wire_id, small) for wire_id in (16, 18, 19)))
transform = stage(24, seed) | stage(27, st.integers(1, 64))
quantizer = st.one_of(
    *(stage(wire_id) for wire_id in (32, 33, 35)),
    stage(34, st.integers(1, 16), st.integers(0, 1), scale),
    stage(36, scale),
    stage(37, scale),
    stage(38, st.integers(2, 6), scale),
    stage(39, st.integers(2, 256), st.integers(0, 1)),
    stage(40, st.integers(1, 127)),
)


def optional(strategy):
    return st.lists(strategy, max_size=1).map(tuple)


ordered = st.tuples(
    optional(trainable), optional(keep), optional(sparsifier), optional(transform), quantizer.map(lambda s: (s,))
)
any_stages = st.lists(st.builds(StageHeader, st.sampled_from(STAGE_IDS) | st.integers(0, 2**32 - 1), args), max_size=5)
any_sections = st.lists(
    st.builds(Section, st.sampled_from(SectionKind), st.integers(0, 4), st.binary(max_size=60)), max_size=6
).map(lambda sections: tuple(sorted({s.kind: s for s in sections}.values(), key=lambda s: s.kind)))


def frame(spec, stages, sections):
    return write_frame(Frame(Binding(), spec.fingerprint, tuple(stages), sections))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SPECS), ordered.map(lambda parts: sum(parts, ())), st.integers(0, 2**32 - 1))
def test_stages_in_order_with_fitting_sections(spec, stages, values_seed):
    outcome_of(frame(spec, stages, sections_fitting(stages, spec, random.Random(values_seed))), spec)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SPECS), any_stages, any_sections)
def test_any_stages_with_any_sections(spec, stages, sections):
    outcome_of(frame(spec, stages, sections), spec)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SPECS),
    any_stages | ordered.map(lambda parts: list(sum(parts, ()))),
    st.randoms(use_true_random=False),
)
def test_any_stages_with_fitting_sections(spec, stages, rng):
    rng.shuffle(stages)
    outcome_of(frame(spec, stages, sections_fitting(stages, spec, rng)), spec)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SPECS), st.lists(st.floats(width=32), min_size=8, max_size=8), st.integers(2, 16))
def test_affine_tables_of_any_floats(spec, numbers, bits):
    """Offsets and steps whose sums overflow or are no numbers."""
    count = sum(tensor.size for tensor in spec if tensor.is_float)
    tables = np.resize(np.float32(numbers), 2)
    symbols = np.full(count, (1 << bits) - 1, np.uint8 if bits <= 8 else np.uint16)
    integers = bytes(8 * sum(tensor.size for tensor in spec if not tensor.is_float))
    parts = (
        (SectionKind.KEPT_INTS, integers),
        (SectionKind.TABLES, tables.tobytes()),
        (SectionKind.VALUES, symbols.tobytes()),
    )
    sections = tuple(Section(kind, 0, data) for kind, data in parts if data)
    outcome_of(frame(spec, (StageHeader(34, (bits, 1, 1)),), sections), spec)
