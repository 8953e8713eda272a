"""Signs by channel: exact, smaller where channels are one-sided, refused where they are not all there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.coding import channel_signs
from fedcomp.codecs.coding.rans import INTERVALS
from fedcomp.codecs.coding.sections import code_signs, decode_signs
from fedcomp.codecs.groups import Cuts
from fedcomp.errors import FrameError, FrameMalformed
from fedcomp.wire import Section, SectionKind


def cuts_of(sizes):
    bounds = np.cumsum([0, *sizes], dtype=np.int64)
    return Cuts(bounds[[0, -1]], bounds)


def one_sided(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return np.packbits(rng.random(sum(sizes)) < np.repeat(rng.choice([0.03, 0.97], len(sizes)), sizes))


@given(sizes=st.lists(st.integers(0, 30), max_size=20), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_signs_come_back(sizes, seed, share):
    cuts = cuts_of(sizes)
    packed = np.packbits(np.random.default_rng(seed).random(cuts.size) < share)
    decoded = channel_signs.decode_signs(channel_signs.encode_signs(packed, cuts), cuts)
    np.testing.assert_array_equal(decoded, packed, strict=True)


def test_one_sided_channels_pay():
    sizes = [20] * 100
    packed, cuts = one_sided(sizes), cuts_of(sizes)
    section = code_signs(packed, cuts)
    assert section.coder == INTERVALS
    assert len(section.data) < 0.45 * packed.size
    np.testing.assert_array_equal(decode_signs(section, cuts), packed)


def test_random_signs_stay_plain():
    cuts = cuts_of([20] * 100)
    packed = np.frombuffer(np.random.default_rng(0).bytes(250), np.uint8)
    section = code_signs(packed, cuts)
    assert section == Section(SectionKind.SIGNS, 0, packed.tobytes())
    np.testing.assert_array_equal(decode_signs(section, cuts), packed)


def test_very_many_signs_stay_plain():
    cuts = cuts_of([channel_signs.MOST_SIGNS + 1])
    packed = np.packbits(np.zeros(cuts.size, bool))
    assert code_signs(packed, cuts).coder != INTERVALS
    with pytest.raises(FrameMalformed, match="at most"):
        decode_signs(Section(SectionKind.SIGNS, INTERVALS, bytes(8)), cuts)


def test_other_channels_or_counts_are_refused_or_give_signs():
    sizes = [20] * 100
    data = channel_signs.encode_signs(one_sided(sizes), cuts_of(sizes))
    for other in ([20] * 99, [20] * 101, [2000], [1] * 2000, [0, 7], []):
        try:
            decoded = channel_signs.decode_signs(data, cuts_of(other))
        except FrameError:
            continue
        assert decoded.size == -(-sum(other) // 8)
