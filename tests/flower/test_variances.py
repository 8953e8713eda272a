"""Running variances stay positive, whatever a codec makes of their updates."""

import numpy as np

from fedcomp.flower.variances import mend_variances

BEFORE = {"bn.running_var": np.array([1, 4, 2, 0], np.float32), "bn.weight": np.ones(2, np.float32)}


def test_one_that_would_not_be_positive_becomes_half_of_what_it_was():
    after = {"bn.running_var": np.array([-1, 0, 3, 0], np.float32), "bn.weight": np.array([-1, 0], np.float32)}
    mended = mend_variances(after, BEFORE)
    np.testing.assert_array_equal(mended["bn.running_var"], np.array([0.5, 2, 3, 0], np.float32))
    assert mended["bn.running_var"].dtype == np.float32
    assert mended["bn.weight"] is after["bn.weight"]


def test_a_model_without_such_is_left_alone():
    assert mend_variances(BEFORE, BEFORE) is BEFORE
