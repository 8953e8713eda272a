"""Symbols come back from magnitudes and signs, and hostile ones never leave their type in silence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedcomp
from fedcomp.codecs.coding.signs import join_signs, packed_size, split_signs
from fedcomp.errors import InvalidValues


@given(hnp.arrays(np.uint8, st.integers(0, 300), elements=st.integers(0, 254)), st.sampled_from([7, 31, 127]))
def test_symbols_come_back(symbols, centre):
    symbols = np.minimum(symbols, 2 * centre)
    magnitudes, packed = split_signs(symbols, centre)
    assert magnitudes.dtype == symbols.dtype
    assert packed.size == packed_size(magnitudes)
    np.testing.assert_array_equal(magnitudes, np.abs(symbols.astype(int) - centre))
    np.testing.assert_array_equal(join_signs(magnitudes, packed, centre), symbols)


def test_wide_symbols_come_back():
    symbols = np.random.default_rng(0).integers(0, 65_535, 100_000).astype(np.uint16)
    np.testing.assert_array_equal(join_signs(*split_signs(symbols, 32_767), 32_767), symbols)


def test_padding_and_magnitudes_out_of_range_are_refused():
    with pytest.raises(InvalidValues, match="padding"):
        join_signs(np.uint8([1, 0, 3]), np.uint8([0b11100000]), 7)
    with pytest.raises(InvalidValues, match="magnitude 129"):
        join_signs(np.uint8([129]), np.uint8([0]), 127)


@pytest.mark.parametrize("text", ["topk(density=0.1) | uniform(bits=6)", "topk(density=0.1) | deadzone(step=0.5)"])
def test_signs_that_go_by_rows_pay(text):
    rng = np.random.default_rng(0)
    magnitudes, codec = np.abs(rng.laplace(size=(60, 300))), fedcomp.codec(text)
    by_rows = {"w": (magnitudes * rng.choice([-1, 1], (60, 1))).astype(np.float32)}
    mixed = {"w": (magnitudes * rng.choice([-1, 1], (60, 300))).astype(np.float32)}
    assert codec.encode(by_rows).ledger.signs > 0
    assert len(codec.encode(by_rows).frame) < 0.97 * len(codec.encode(mixed).frame)
    for delta in (by_rows, mixed):
        decoded = fedcomp.decode(codec.encode(delta).frame, fedcomp.ModelSpec.of(delta))["w"]
        sent = decoded != 0
        np.testing.assert_array_equal(np.sign(decoded[sent]), np.sign(delta["w"][sent]))
