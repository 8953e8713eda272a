"""Attribution maps: complete, alike for like models."""

import sys

import numpy as np
import pytest
import torch

from fedcomp.errors import UsageError
from fedcomp.explaining import integrated_gradients, saliency_drift
from fedcomp.explaining.saliency import first_of_each_class
from fedcomp.training import predict_logits


@pytest.fixture(scope="module")
def few(finished):
    return first_of_each_class(finished.held_out.validation, 2)


def test_the_first_of_each_class(few, finished):
    assert few.labels.tolist() == [label for label in range(10) for _ in range(2)]
    validation = finished.held_out.validation
    first = np.flatnonzero(validation.labels == 3)[0]
    assert np.array_equal(few.images[6], validation.images[first])


def test_a_map_sums_to_what_the_image_adds_to_the_logit(finished, few):
    classes = torch.from_numpy(few.labels)
    maps = integrated_gradients(finished.model, few, classes)
    assert maps.shape == (20, 8, 8)
    logits, black = (predict_logits(finished.model, pixels) for pixels in (few.images, np.zeros_like(few.images)))
    added = (logits - black).gather(1, classes[:, None])[:, 0]
    assert torch.allclose(maps.sum(dim=(1, 2)), added, atol=0.05 * added.abs().max().item())


def test_a_model_does_not_drift_from_itself(finished, few):
    other = finished.build("student-cnn(width=0.25)").train()
    same, unlike = (saliency_drift(finished.model, model, few) for model in (finished.model, other))
    assert same.drift.abs().max() < 1e-5
    assert unlike.drift.mean() > 0.1
    assert ((unlike.drift >= 0) & (unlike.drift <= 2)).all()
    assert other.training
    assert set(unlike.by_class()) == set(range(10))
    assert unlike.by_class()[4] == pytest.approx(unlike.drift[8:10].mean().item())


def test_without_captum_a_user_is_told(finished, few, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match=r"fedcomp\[explain\]"):
        saliency_drift(finished.model, finished.model, few)
