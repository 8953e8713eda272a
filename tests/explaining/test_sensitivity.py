"""One layer at a time: the model stays as it is, fewer bits hurt more, and nothing changed is no damage."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedcomp.errors import DataError, UsageError
from fedcomp.explaining import measure_sensitivity, signal_to_noise
from fedcomp.models import get_weights


def test_coarser_layers_are_smaller_and_noisier(finished):
    before = get_weights(finished.model)
    rows = measure_sensitivity(finished.model, finished.held_out.validation, bits=(8, 4, 2), prune_ratios=())
    after = get_weights(finished.model)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    layers = list(dict.fromkeys(row.layer for row in rows))
    assert layers == [name for name, values in before.items() if values.ndim > 1]
    for layer in layers:
        own = [row for row in rows if row.layer == layer]
        assert [row.change for row in own] == ["8 bits", "4 bits", "2 bits"]
        for finer, coarser in pairwise(own):
            assert finer.sqnr_db > coarser.sqnr_db + 6
            assert finer.num_bytes > coarser.num_bytes
        assert own[0].flip_rate <= own[-1].flip_rate
        assert own[0].sqnr_db > 30


def test_each_layer_is_restored_before_the_next(finished):
    """A layer's row does not depend on which changes came before it."""
    images = finished.held_out.validation
    alone = measure_sensitivity(finished.model, images, bits=(3,), prune_ratios=())
    among = measure_sensitivity(finished.model, images, bits=(2, 3), prune_ratios=(0.9,))
    assert [row for row in among if row.change == "3 bits"] == alone


def test_pruning_nothing_changes_nothing_and_pruning_all_silences(finished):
    images = finished.held_out.validation
    nothing, everything = (
        measure_sensitivity(finished.model, images, bits=(), prune_ratios=(ratio,)) for ratio in (0.0, 1.0)
    )
    for row in nothing:
        assert (row.accuracy_drop, row.flip_rate, row.sqnr_db) == (0, 0, math.inf)
    assert everything[-1].sqnr_db == pytest.approx(0, abs=2)
    assert everything[-1].accuracy_drop > 0.5


def test_signal_to_noise_by_hand():
    reference = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    assert signal_to_noise(reference, reference * 0.9) == pytest.approx(20)
    assert signal_to_noise(reference, reference + 7) > 200
    assert signal_to_noise(torch.zeros(1, 2), reference[:1]) == -math.inf


def test_what_can_not_be_measured_is_refused(finished):
    images = finished.held_out.validation
    with pytest.raises(UsageError, match="bits"):
        measure_sensitivity(finished.model, images, bits=(1,), prune_ratios=())
    with pytest.raises(UsageError, match="can not be pruned"):
        measure_sensitivity(finished.model, images, bits=(), prune_ratios=(1.5,))
    with pytest.raises(DataError, match="no image"):
        measure_sensitivity(finished.model, images.take(np.arange(0)), bits=(8,), prune_ratios=())
