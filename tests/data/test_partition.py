"""Partitions: every image has exactly one client."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.data import label_divergence, partition_labels
from fedcomp.errors import ConfigError, DataError

SCHEMES = pytest.mark.parametrize("scheme", ["iid", "dirichlet", "shards"])


def partition(labels, num_clients=10, scheme="iid", alpha=0.5, seed=0):
    return partition_labels(labels, num_clients=num_clients, scheme=scheme, alpha=alpha, seed=seed)


@SCHEMES
@pytest.mark.parametrize(("count", "num_clients"), [(200, 10), (203, 10), (97, 7), (1037, 20), (5, 1)])
def test_every_index_has_one_client(scheme, count, num_clients):
    parts = partition(np.arange(count) % 10, num_clients, scheme)
    assert len(parts) == num_clients
    assert min(map(len, parts)) > 0
    assert sorted(np.concatenate(parts)) == list(range(count))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["iid", "shards"]), st.integers(1, 12), st.integers(0, 40), st.integers(0, 99))
def test_any_number_of_images_from_one_a_client_is_shared_out(scheme, num_clients, more, seed):
    count = num_clients + more
    parts = partition(np.arange(count) % 3, num_clients, scheme, seed=seed)
    assert min(map(len, parts)) > 0
    assert sorted(np.concatenate(parts)) == list(range(count))


@SCHEMES
def test_the_seed_decides(scheme):
    first, same, other = (partition(np.arange(200) % 10, scheme=scheme, seed=seed) for seed in (4, 4, 5))
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any(set(a) != set(b) for a, b in zip(first, other, strict=True))


def test_divergence_grows_with_skew():
    labels = np.arange(2000) % 10
    skews = [label_divergence(labels, partition(labels, scheme="dirichlet", alpha=a), 10) for a in (100.0, 1.0, 0.1)]
    assert skews == sorted(skews)
    assert 0 <= skews[0] < 0.1 < 0.5 < skews[2] < 1
    assert label_divergence(labels, [np.arange(2000)], 10) == 0
    assert label_divergence(labels, [np.arange(2000), np.array([], np.int64)], 10) == 0


@pytest.mark.parametrize("labels", [np.sort(np.arange(1000) % 10), np.arange(1000) % 10])
def test_the_order_of_the_images_does_not_decide_the_skew(labels):
    assert label_divergence(labels, partition(labels), 10) < 0.2
    assert label_divergence(labels, partition(labels, scheme="shards"), 10) > 0.7


def test_shards_that_divide_hold_two_classes_at_most():
    labels = np.random.default_rng(0).permutation(np.arange(200) % 10)
    parts = partition(labels, scheme="shards")
    assert {len(part) for part in parts} == {20}
    assert max(len(np.unique(labels[part])) for part in parts) == 2


def test_impossible_partitions_are_refused():
    with pytest.raises(ConfigError, match="5 clients but 3 images"):
        partition(np.zeros(3, np.int64), 5)
    with pytest.raises(DataError, match="lower num-clients or raise dirichlet-alpha"):
        partition(np.zeros(30, np.int64), 30, "dirichlet", alpha=1e-3)
    with pytest.raises(ConfigError, match="iid, dirichlet, shards"):
        partition(np.zeros(3, np.int64), 1, "random")
    with pytest.raises(ConfigError, match="num-clients is 0"):
        partition(np.zeros(3, np.int64), 0)
    for alpha in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="dirichlet-alpha"):
            partition(np.zeros(3, np.int64), 1, "dirichlet", alpha)


def test_progress_bars_stay_as_the_caller_has_them():
    from datasets.utils import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    partition(np.arange(20) % 10, 2)
    assert are_progress_bars_disabled() == before


@SCHEMES
def test_nothing_is_drawn_from_the_global_generators(scheme):
    """Flower samples clients with Python's, from which the first import of `datasets` draws: so in a new process."""
    code = f"""
import random
import numpy as np
from fedcomp.data import partition_labels
python, numpy = random.getstate(), np.random.get_state()[1:3]
partition_labels(np.arange(200) % 10, num_clients=10, scheme={scheme!r})
assert random.getstate() == python
assert (np.random.get_state()[1] == numpy[0]).all() and np.random.get_state()[2] == numpy[1]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_iid_is_what_the_library_makes():
    from datasets import Dataset
    from flwr_datasets.partitioner import IidPartitioner

    from fedcomp.seeding import derive_seed

    labels = np.zeros(103, np.int64)
    rows = Dataset.from_dict({"idx": np.arange(103)})
    library = IidPartitioner(num_partitions=10)
    library.dataset = rows.shuffle(seed=derive_seed(5, "partition") % 2**32)
    ours = partition_labels(labels, num_clients=10, scheme="iid", seed=5)
    assert [part.tolist() for part in ours] == [library.load_partition(i)["idx"][:] for i in range(10)]
