"""Pools: every image has exactly one place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.data import ImageDataset, hide_labels, hold_out, label_all, split_labelled
from fedcomp.errors import ConfigError, DataError


def dataset(count=60, num_classes=3):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ImageDataset("toy", images, np.arange(count) % num_classes, num_classes)


def test_hold_out_splits_and_hides():
    held_out = hold_out(dataset(), validation_size=10, proxy_size=20, seed=0)
    parts = (held_out.clients, held_out.validation, held_out.proxy)
    assert sorted(np.concatenate([p.images.ravel() for p in parts])) == list(range(60))
    assert (held_out.proxy.labels == -1).all()
    assert (held_out.validation.labels >= 0).all()
    with pytest.raises(DataError, match="leave none"):
        hold_out(dataset(), validation_size=40, proxy_size=20, seed=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 1.0), st.integers(0, 99))
def test_pools_are_apart_stratified_and_the_truth_is_hidden(count, fraction, seed):
    data = dataset(count)
    pools = split_labelled(data, label_fraction=fraction, seed=seed)
    together = np.concatenate([pools.labelled.images.ravel(), pools.unlabelled.images.ravel()])
    assert sorted(together) == list(range(count))
    assert len(pools.labelled) >= 1
    assert (pools.unlabelled.labels == -1).all()
    np.testing.assert_array_equal(pools.hidden_labels, pools.unlabelled.images.ravel() % 3)
    sizes, kept = np.bincount(data.labels, minlength=3), np.bincount(pools.labelled.labels, minlength=3)
    if kept.sum() > 1:
        assert (np.abs(kept - fraction * sizes) <= 0.5 + 1e-9).all()


def test_impossible_label_fractions_are_refused():
    for fraction in (0.0, -0.5, 50.0, float("nan")):
        with pytest.raises(ConfigError, match="label-fraction"):
            split_labelled(dataset(), label_fraction=fraction, seed=0)
    with pytest.raises(DataError, match="without images"):
        split_labelled(dataset().take(np.array([], np.int64)), label_fraction=0.5, seed=0)


def test_all_labels_leave_no_unlabelled_image():
    pools = split_labelled(dataset(), label_fraction=1.0, seed=0)
    assert (len(pools.labelled), len(pools.unlabelled), len(pools.hidden_labels)) == (60, 0, 0)


def test_the_servers_labels_are_balanced_and_its_own():
    def parts(server_labels):
        return hold_out(dataset(), validation_size=5, proxy_size=5, server_labels=server_labels, seed=0)

    without, held_out = parts(0), parts(10)
    assert len(without.labelled) == 0
    assert np.array_equal(without.validation.images, held_out.validation.images)
    assert np.array_equal(without.proxy.images, held_out.proxy.images)
    assert sorted(np.bincount(held_out.labelled.labels)) == [3, 3, 4]
    together = np.concatenate([held_out.clients.images, held_out.labelled.images])
    assert sorted(together.ravel()) == sorted(without.clients.images.ravel())
    with pytest.raises(DataError, match="server-labels 49 needs"):
        parts(49)
    with pytest.raises(DataError, match="leave none"):
        parts(50)


def test_all_labels_or_none():
    data = dataset()
    assert len(label_all(data).unlabelled) == len(label_all(data).hidden_labels) == 0
    hidden = hide_labels(data)
    assert len(hidden.labelled) == 0
    assert (hidden.unlabelled.labels == -1).all()
    assert (hidden.hidden_labels == data.labels).all()
