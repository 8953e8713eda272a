"""Positions coded by how the model has moved: exact, the same everywhere, and refused rather than wrong."""

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.coding import contextual, odds
from fedcomp.codecs.coding.odds import Odds, octaves_below_top
from fedcomp.codecs.coding.rans import INTERVALS
from fedcomp.codecs.coding.sections import code_positions, decode_positions
from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.stages.topk import TopK
from fedcomp.errors import FrameError, FrameMalformed, InvalidValues, MissingContext, UsageError
from fedcomp.wire import Section, SectionKind


def cuts_of(*shapes):
    return layout_of(
        fedcomp.ModelSpec.of({str(i): np.zeros(s, np.float32) for i, s in enumerate(shapes)}), 0
    ).coded.cuts


CUTS = cuts_of((96, 160), (96,), (200, 60), (10, 96), (8, 4, 5, 5))


def movement(seed=0, cuts=CUTS):
    """Return how far weights have moved in rows and columns of very different activity, many of them not at all."""
    rng = np.random.default_rng(seed)
    parts = [
        np.outer(np.exp2(rng.uniform(-9, 0, m.rows)), np.exp2(rng.uniform(-9, 0, m.columns))).reshape(-1)
        for m in cuts.matrices
    ]
    moved = np.concatenate(parts) * rng.normal(size=cuts.size)
    return np.where(np.abs(moved) > np.quantile(np.abs(moved), 0.6), moved, 0).astype(np.float32)


def positions_following(moved, density, seed=0):
    """Return positions that are likelier where much has moved."""
    noise = np.random.default_rng(seed).exponential(size=moved.size)
    count = round(density * moved.size)
    return np.sort(np.argsort(-np.abs(moved) * noise, kind="stable")[:count])


def by_kind(sections):
    return {kind: [s for s in sections if s.kind == kind] for kind in {s.kind for s in sections}}


MOVEMENTS = {
    "nothing": lambda size, rng: np.zeros(size),
    "all alike": lambda size, rng: np.full(size, 0.25),
    "denormal": lambda size, rng: rng.normal(size=size) * 1e-41,
    "huge": lambda size, rng: rng.uniform(-3, 3, size=size) * 1e38,
    "of all sizes": lambda size, rng: np.exp2(rng.uniform(-149, 127, size)) * np.sign(rng.normal(size=size)),
    "no numbers": lambda size, rng: rng.choice([np.nan, np.inf, -np.inf, 1.0, 0.0], size),
    "mostly nothing": lambda size, rng: rng.normal(size=size) * (rng.random(size) < 0.1),
}
shapes = st.lists(
    st.one_of(st.tuples(st.integers(0, 40), st.integers(1, 60)), st.tuples(st.integers(0, 300)), st.just((3, 4, 2, 2))),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(shapes=shapes, kind=st.sampled_from(sorted(MOVEMENTS)), seed=st.integers(0, 10_000), density=st.floats(0, 1))
def test_positions_come_back(shapes, kind, seed, density):
    cuts, rng = cuts_of(*shapes), np.random.default_rng(seed)
    moved = MOVEMENTS[kind](cuts.size, rng).astype(np.float32)
    positions = np.flatnonzero(rng.random(cuts.size) < density)
    data = contextual.encode_positions(positions, cuts, moved)
    assert data == contextual.encode_positions(positions, cuts, -moved)
    found = contextual.decode_positions(data, positions.size, cuts, moved)
    np.testing.assert_array_equal(found, positions, strict=True)


@pytest.mark.parametrize("where", ["first", "last", "one line", "one column", "all"])
@pytest.mark.parametrize("kind", sorted(MOVEMENTS))
def test_unlikely_masks_come_back(where, kind):
    moved = MOVEMENTS[kind](CUTS.size, np.random.default_rng(0)).astype(np.float32)
    positions = {
        "first": np.array([0]),
        "last": np.array([CUTS.size - 1]),
        "one line": np.arange(320, 480),
        "one column": np.arange(7, 96 * 160, 160),
        "all": np.arange(CUTS.size),
    }[where]
    data = contextual.encode_positions(positions, CUTS, moved)
    np.testing.assert_array_equal(contextual.decode_positions(data, positions.size, CUTS, moved), positions)


def test_a_last_line_after_a_thousand_that_are_idle():
    cuts = cuts_of((1000, 1000))
    moved = np.repeat(np.exp2(-np.arange(1000) // 50), 1000).astype(np.float32)
    positions = np.arange(999_000, 999_500)
    data = contextual.encode_positions(positions, cuts, moved)
    np.testing.assert_array_equal(contextual.decode_positions(data, positions.size, cuts, moved), positions)


@pytest.mark.parametrize("memory", [0.0, 1e-300, 1.0])
def test_priors_never_vanish(memory, monkeypatch):
    """With the memory that there is it would take a matrix of 14,000 lines."""
    monkeypatch.setattr(odds, "_MEMORY", memory)
    positions = np.array([5, 15_000])
    for moved in (np.zeros(CUTS.size, np.float32), movement()):
        data = contextual.encode_positions(positions, CUTS, moved)
        np.testing.assert_array_equal(contextual.decode_positions(data, 2, CUTS, moved), positions)


def test_movement_pays():
    moved = movement()
    for density in (0.01, 0.05):
        positions = positions_following(moved, density)
        with_context, without = code_positions(positions, CUTS, moved), code_positions(positions, CUTS)
        assert [(s.kind, s.coder) for s in with_context] == [(SectionKind.POSITIONS, INTERVALS)]
        assert len(with_context[0].data) < 0.75 * sum(len(s.data) for s in without)
        decoded = decode_positions(by_kind(with_context), positions.size, CUTS, moved)
        np.testing.assert_array_equal(decoded, positions)


def test_movement_that_tells_nothing_costs_nothing():
    rng = np.random.default_rng(0)
    cuts = cuts_of((200, 250))
    positions = np.sort(rng.choice(cuts.size, 500, replace=False))
    moved = rng.normal(size=cuts.size).astype(np.float32)
    ideal = 500 * 8.08 / 8
    assert len(contextual.encode_positions(positions, cuts, moved)) < 1.04 * ideal + 20
    sections = code_positions(positions, cuts, moved)
    assert sum(len(s.data) for s in sections) <= sum(len(s.data) for s in code_positions(positions, cuts))


def test_few_positions_stay_plain():
    assert code_positions(np.arange(40), CUTS, movement())[0].coder != INTERVALS
    assert code_positions(np.empty(0, np.int64), CUTS, movement()) == []


def test_dense_masks_stay_plain():
    """They are decoded one by one, so what they may cost is limited, and a receiver holds a sender to it."""
    positions = np.arange(0, CUTS.size, 15)
    moved = movement()
    assert all(s.coder != INTERVALS for s in code_positions(positions, CUTS, moved))
    section = Section(SectionKind.POSITIONS, INTERVALS, contextual.encode_positions(positions, CUTS, moved))
    with pytest.raises(FrameMalformed, match="no encoder"):
        decode_positions({SectionKind.POSITIONS: [section]}, positions.size, CUTS, moved)


def test_refused_without_the_movement():
    moved = movement()
    positions = positions_following(moved, 0.02)
    sections = by_kind(code_positions(positions, CUTS, moved))
    with pytest.raises(MissingContext, match="moved"):
        decode_positions(sections, positions.size, CUTS)
    with pytest.raises(UsageError, match="float32"):
        decode_positions(sections, positions.size, CUTS, moved[:-1])
    with pytest.raises(UsageError, match="float32"):
        code_positions(positions, CUTS, moved.astype(np.float64))
    sections[SectionKind.ACTIVITY] = [Section(SectionKind.ACTIVITY, 0, b"x")]
    with pytest.raises(FrameMalformed, match="left out"):
        decode_positions(sections, positions.size, CUTS, moved)


def test_another_count_is_refused():
    moved = movement()
    positions = positions_following(moved, 0.02)
    data = contextual.encode_positions(positions, CUTS, moved)
    for count in (0, 1, positions.size - 1, positions.size + 1, CUTS.size // 16):
        with pytest.raises(FrameError):
            contextual.decode_positions(data, count, CUTS, moved)


def test_another_movement_is_refused_or_gives_other_positions():
    """A frame is bound to its context; but whoever decodes in another one gets a refusal or positions, no crash."""
    moved = movement()
    positions = positions_following(moved, 0.02)
    data = contextual.encode_positions(positions, CUTS, moved)
    outcomes = set()
    for seed in range(20):
        try:
            found = contextual.decode_positions(data, positions.size, CUTS, movement(seed + 1))
        except (FrameMalformed, InvalidValues):
            outcomes.add("refused")
        else:
            outcomes.add("decoded")
            assert (np.diff(found) > 0).all()
    assert "refused" in outcomes


def test_the_same_bytes_on_every_machine():
    """The digest was made once, of whole numbers: only they and IEEE arithmetic lead to the bytes."""
    noise = np.arange(CUTS.size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)
    moved = np.ldexp((noise % 1021).astype(np.float32), -(noise % 31).astype(np.int64))
    positions = np.flatnonzero((noise % 31 < 5) & (noise % 17 == 0))
    data = contextual.encode_positions(positions, CUTS, moved)
    assert (positions.size, len(data), xxhash.xxh3_64_hexdigest(data)) == (273, 220, "79e5d83b9c5ae263")


def test_octaves_are_below_the_top():
    values = np.float32([0, -0.0, 1e-45, 2.0, -1.5, 1.0, 0.99, 2.0**-28, 2.0**-29, 2.0**-60])
    assert octaves_below_top(values).tolist() == [0, 0, 0, 31, 30, 30, 29, 2, 1, 1]
    assert octaves_below_top(np.empty(0, np.float32)).size == 0


def test_what_is_expected_is_strictly_increasing():
    moved = movement()
    for matrix in Odds(moved, CUTS, 500).matrices():
        for line in matrix.lines():
            assert line.expected[0] == 0
            assert (np.diff(line.expected) > 0).all()
            assert line.patience >= 1
            matrix.learn(np.arange(0, line.expected.size - 1, 7))


def test_bits_are_about_what_positions_take():
    moved = movement()
    positions = positions_following(moved, 0.03)
    bits = contextual.estimate_bits(positions, CUTS, moved)
    assert bits.shape == (CUTS.size,)
    assert np.isfinite(bits).all()
    coded = 8 * len(contextual.encode_positions(positions, CUTS, moved))
    assert 0.5 * coded < bits[positions].sum() < 1.2 * coded


def test_a_price_makes_positions_cheaper():
    moved, rng = movement(), np.random.default_rng(0)
    values = (rng.exponential(size=moved.size) * np.where(moved, 2, 1)).astype(np.float32)
    values[::7] = 0
    plain, priced = TopK(density=0.03), TopK(density=0.03, price=0.04)
    by_value = plain.select(values, CUTS, None).positions
    np.testing.assert_array_equal(priced.select(values, CUTS, None).positions, by_value)
    weighed = priced.select(values, CUTS, None, moved=moved)
    assert weighed.positions.size <= by_value.size
    assert (np.diff(weighed.positions) > 0).all()
    assert (weighed.values != 0).all()
    np.testing.assert_array_equal(weighed.values, values[weighed.positions])
    kept = np.square(weighed.values).sum() / np.square(values[by_value]).sum()
    sizes = [len(contextual.encode_positions(p, CUTS, moved)) for p in (weighed.positions, by_value)]
    assert kept > 0.97
    assert sizes[0] < 0.97 * sizes[1]


@pytest.mark.parametrize("scope", ["model", "tensor"])
@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-6, 1e38])
def test_a_price_is_safe_with_any_values(scope, scale):
    values = (np.random.default_rng(0).uniform(-3, 3, CUTS.size) * scale).astype(np.float32)
    selection = TopK(density=0.02, scope=scope, price=1.0).select(values, CUTS, None, moved=movement())
    assert (selection.values != 0).all()
    assert (np.diff(selection.positions) > 0).all()
