"""Confidence against accuracy, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.explaining import expected_calibration_error, reliability


def logits_of(confidences):
    """Two classes, the first of which has these probabilities."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], dim=1)


def test_by_hand():
    labels = torch.tensor([0, 0, 1, 0])
    bins = reliability(logits_of([0.9, 0.9, 0.9, 0.6]), labels, num_bins=5)
    assert [each.num_images for each in bins] == [0, 0, 1, 0, 3]
    assert bins[4].accuracy == pytest.approx(2 / 3)
    assert bins[4].confidence == pytest.approx(0.9)
    assert expected_calibration_error(bins) == pytest.approx(3 / 4 * (0.9 - 2 / 3) + 1 / 4 * 0.4)


def test_the_sure_and_wrong_are_worst_and_nobody_is_perfect():
    sure = torch.tensor([[100.0, 0.0]]).expand(8, 2)
    assert expected_calibration_error(reliability(sure, torch.ones(8, dtype=torch.int64))) == pytest.approx(1)
    assert expected_calibration_error(reliability(sure, torch.zeros(8, dtype=torch.int64))) == pytest.approx(0)
    assert expected_calibration_error(reliability(sure[:0], torch.zeros(0, dtype=torch.int64))) == 0


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(2, 12), st.integers(1, 20))
def test_bins_hold_every_image_where_its_confidence_is(seed, count, classes, num_bins):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    bins = reliability(logits, labels, num_bins)
    assert len(bins) == num_bins
    assert sum(each.num_images for each in bins) == count
    for each in bins:
        assert not each.num_images or each.lower - 1e-9 <= each.confidence <= each.upper + 1e-9
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    assert sum(each.num_images * each.accuracy for each in bins) / count == pytest.approx(accuracy)
    assert 0 <= expected_calibration_error(bins) <= 1
