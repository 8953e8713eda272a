"""A codec for a budget: all fit it, the best is first, and more bytes leave less error."""

import numpy as np
import pytest

from fedcomp.codecs import parse_codec
from fedcomp.errors import UsageError
from fedcomp.tuning import CODECS, fit_codecs


def test_candidates_can_be_scaled():
    assert all(parse_codec(text).is_scalable for text in CODECS)
    assert len(set(CODECS)) == len(CODECS)


def test_all_fit_and_the_best_is_first(finished):
    update = finished.update()
    fitted, refused = fit_codecs(update, 3000)
    assert all(0 < one.num_bytes <= 3000 for one in fitted)
    assert [one.squared_error for one in fitted] == sorted(one.squared_error for one in fitted)
    assert {one.codec for one in fitted} | refused.keys() == set(CODECS)
    assert fit_codecs(update, 9000)[0][0].squared_error < fitted[0].squared_error < 1


def test_what_does_not_fit_says_why(finished):
    update = finished.update()
    fitted, refused = fit_codecs(update, 3000, codecs=["thin", "float32"])
    assert [one.codec for one in fitted] == ["thin"]
    assert refused["float32"]
    with pytest.raises(UsageError, match="too small a budget"):
        fit_codecs(update, 10)


def test_an_update_of_zeros_has_no_error():
    fitted, _ = fit_codecs({"w": np.zeros((20, 20), np.float32)}, 500, codecs=["topk(density=0.01) | ternary"])
    assert fitted[0].squared_error == 0
