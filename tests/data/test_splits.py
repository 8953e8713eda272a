"""Partitions and pools: every image has exactly one place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.data import ImageDataset, hold_out, label_divergence, partition_labels, split_labelled
from fedcomp.errors import ConfigError, DataError

SCHEMES = ("iid", "dirichlet", "shards")


def dataset(count=60, num_classes=3):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ImageDataset("toy", images, np.arange(count) % num_classes, num_classes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_index_has_one_client(scheme):
    labels = np.arange(200) % 10
    parts = partition_labels(labels, num_clients=10, scheme=scheme, alpha=0.5, seed=1)
    assert len(parts) == 10
    assert min(map(len, parts)) > 0
    assert sorted(np.concatenate(parts)) == list(range(200))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_seed_same_partition(scheme):
    first, second = (
        partition_labels(np.arange(200) % 10, num_clients=10, scheme=scheme, alpha=0.5, seed=4) for _ in range(2)
    )
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_divergence_grows_with_skew():
    labels = np.arange(2000) % 10
    skews = [
        label_divergence(labels, partition_labels(labels, num_clients=10, scheme="dirichlet", alpha=a, seed=0), 10)
        for a in (100.0, 1.0, 0.1)
    ]
    assert skews == sorted(skews)
    assert 0 <= skews[0] < 0.1 < 0.5 < skews[2] < 1
    assert label_divergence(labels, [np.arange(2000)], 10) == 0


def test_impossible_partitions_are_refused():
    with pytest.raises(DataError, match="5 clients but 3 images"):
        partition_labels(np.zeros(3, np.int64), num_clients=5, scheme="iid")
    with pytest.raises(DataError, match="dirichlet"):
        partition_labels(np.zeros(30, np.int64), num_clients=30, scheme="dirichlet", alpha=1e-3)
    with pytest.raises(ConfigError, match="iid, dirichlet, shards"):
        partition_labels(np.zeros(3, np.int64), num_clients=1, scheme="random")


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
