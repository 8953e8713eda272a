"""Intervals come back in order, in as few bits as their widths say; what is not all of them is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.coding.rans import TOTAL, IntervalDecoder, encode_intervals
from fedcomp.errors import FrameMalformed

widths = st.one_of(st.integers(1, TOTAL), st.integers(1, 3), st.integers(TOTAL - 3, TOTAL))
intervals = st.lists(widths.flatmap(lambda width: st.tuples(st.integers(0, TOTAL - width), st.just(width))))


def encode(pairs):
    starts, sizes = np.array(pairs, np.int64).reshape(-1, 2).T
    return encode_intervals(starts, sizes)


def decode(data, pairs):
    decoder = IntervalDecoder(data, len(pairs))
    for start, width in pairs:
        assert start <= decoder.peek() < start + width
        decoder.take(start, width)
    decoder.finish()


@given(pairs=intervals)
def test_intervals_come_back(pairs):
    data = encode(pairs)
    decode(data, pairs)
    bits = sum(np.log2(TOTAL / width) for _, width in pairs)
    assert 8 * len(data) <= bits * 1.001 + 64 + 16


@given(pairs=intervals, cut=st.integers(1, 20))
def test_what_is_cut_is_refused(pairs, cut):
    data = encode(pairs)
    for damaged in (data[:-cut], data + bytes(2 * cut), data + b"x"):
        with pytest.raises(FrameMalformed):
            decode_loosely(damaged, pairs)


def decode_loosely(data, pairs):
    """Decode as a model would that takes whatever interval the number is in."""
    decoder = IntervalDecoder(data, len(pairs))
    for start, width in pairs:
        number = decoder.peek()
        if start <= number < start + width:
            decoder.take(start, width)
        else:
            decoder.take(*((0, start) if number < start else (start + width, TOTAL - start - width)))
    decoder.finish()


@pytest.mark.parametrize("state", [0, 1, (1 << 44) - 1, 1 << 60, (1 << 64) - 1])
def test_states_that_no_encoder_has_are_refused(state):
    with pytest.raises(FrameMalformed, match="state"):
        IntervalDecoder(state.to_bytes(8, "little"), 0)


def test_data_longer_than_the_longest_intervals_are_refused():
    longest = encode([(0, 1)] * 99)
    decode(longest, [(0, 1)] * 99)
    for count in (0, 98):
        with pytest.raises(FrameMalformed, match=f"{len(longest)} bytes, expected at most .* for {count} intervals"):
            IntervalDecoder(longest, count)
