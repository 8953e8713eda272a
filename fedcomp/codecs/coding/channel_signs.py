"""Signs of selected values, channel by channel: behind a ReLU most of a channel's updates have one sign.

Each channel begins with no opinion and soon has one: after ``n`` signs of which ``m`` are negative, the next one is
negative with probability ``(m + 1/5) / (n + 2/5)``. Nothing is sent for that.

References:
    Krichevsky and Trofimov, The performance of universal encoding, IEEE Trans. Inf. Theory 1981 (with 1/2; channels
    here are more one-sided than that prior).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.codecs.coding.rans import TOTAL, IntervalDecoder, encode_intervals

if TYPE_CHECKING:
    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray

MOST_SIGNS = 1 << 17
"""They are decoded one by one, so there is a limit to what a frame may cost: about 80 ms."""


def encode_signs(packed: NDArray, cuts: Cuts) -> bytes:
    """Return the coded signs.

    Args:
        packed: A bit a value, 1 is negative.
        cuts: Where channels begin among the values; ``cuts.size`` is their number.
    """
    negative = np.unpackbits(packed, count=cuts.size).astype(np.int64)
    before = np.cumsum(negative) - negative
    starts, sizes = cuts.channels[:-1], np.diff(cuts.channels)
    first = np.repeat(starts, sizes)
    num_before = np.arange(cuts.size) - first
    num_negative = before - before[first]
    split = _split(num_negative, num_before)
    return encode_intervals(np.where(negative, 0, split), np.where(negative, split, TOTAL - split))


def decode_signs(data: bytes, cuts: Cuts) -> NDArray:
    """Invert `encode_signs`: packed, padded with zeros.

    Raises:
        FrameError: `data` do not hold ``cuts.size`` signs, all of them and nothing else.
    """
    decoder = IntervalDecoder(data, cuts.size)
    negative = []
    for size in np.diff(cuts.channels).tolist():
        num_negative = 0
        for num_before in range(size):
            split = _split(num_negative, num_before)
            if decoder.peek() < split:
                decoder.take(0, split)
                negative.append(True)
                num_negative += 1
            else:
                decoder.take(split, TOTAL - split)
                negative.append(False)
    decoder.finish()
    return np.packbits(np.array(negative, bool))


def _split(num_negative: Any, num_before: Any) -> Any:
    """Return where the interval of a negative sign ends and that of a positive one begins."""
    return TOTAL * (5 * num_negative + 1) // (5 * num_before + 2)
