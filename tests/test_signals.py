"""The signals that positions are coded by, one at a time: each mask is cheap by the signal that it was drawn by."""

import numpy as np
import pytest

from fedcomp.benchmarks.signals import bytes_by_signal
from fedcomp.codecs.groups import Cuts

ROWS, COLUMNS = 60, 200
CUTS = Cuts(np.array([0, ROWS * COLUMNS]), np.arange(ROWS + 1) * COLUMNS)


def drawn(likely):
    rng = np.random.default_rng(0)
    return np.flatnonzero(rng.random(ROWS * COLUMNS) < np.where(likely.ravel(), 0.2, 0.002))


@pytest.mark.parametrize("signal", ["own", "lines"])
def test_a_mask_is_cheap_by_the_signal_that_it_was_drawn_by(signal):
    rng = np.random.default_rng(1)
    likely = np.zeros((ROWS, COLUMNS), bool)
    if signal == "own":
        likely |= rng.random(likely.shape) < 0.1
    else:
        likely[:, rng.permutation(COLUMNS)[: COLUMNS // 10]] = True
    moved = np.where(likely, 1.0, 1e-3).astype(np.float32).ravel()
    sizes = bytes_by_signal(drawn(likely), CUTS, moved)
    assert sizes[signal] < 0.75 * sizes["none"]
    if signal == "own":
        assert sizes["lines"] > 0.95 * sizes["none"]  # cells of no row or column more than others
        assert sizes["learned"] > 0.95 * sizes["none"]
    else:
        assert sizes["lines"] < sizes["learned"] < sizes["none"]  # what is known before need not be found
    assert sizes["all"] < 0.75 * sizes["none"]
