"""Counts of pseudo-labels: what is measured, what is added, what a client may claim."""

import pytest
import torch

from fedcomp.data import UNLABELLED
from fedcomp.errors import DataError
from fedcomp.training import PseudoLabels
from server.pseudo_labels import PseudoLabelTally

GUESSES = torch.tensor([0, 1, 1, 2, 0])
TRUSTED = torch.tensor([True, True, False, True, True])
TRUTH = torch.tensor([0, 1, 1, 1, UNLABELLED])


def counted():
    return PseudoLabels.count(GUESSES, TRUSTED, TRUTH, 3)


def test_counts_are_by_true_class():
    counts = counted()
    assert (counts.guessed, counts.trusted) == (5, 4)
    assert (counts.known, counts.known_trusted, counts.right) == ((1, 3, 0), (1, 2, 0), (1, 1, 0))
    assert (counts.coverage, counts.accuracy) == (4 / 5, 2 / 3)
    row = counts.to_row()
    assert row["pseudo_coverage_by_class"] == [1, 2 / 3, None]
    assert row["pseudo_accuracy_by_class"] == [1, 1 / 2, None]


def test_clients_are_added_by_count_and_not_by_mean():
    whole = PseudoLabels.count(GUESSES.repeat(3), TRUSTED.repeat(3), TRUTH.repeat(3), 3)
    assert counted() + counted() + counted() == whole
    assert PseudoLabels.none(3) + counted() == counted()
    tally = PseudoLabelTally(3)
    small, large = (
        PseudoLabels(1, 1, (1, 0, 0), (1, 0, 0), (1, 0, 0)),
        PseudoLabels(9, 0, (9, 0, 0), (0,) * 3, (0,) * 3),
    )
    tally.add(small.to_metrics())
    tally.add(large.to_metrics())
    assert tally.take()["pseudo_coverage"] == 0.1
    assert tally.take() == {}


def test_what_is_not_known_is_not_told():
    blind = PseudoLabels.count(GUESSES, TRUSTED, torch.full((5,), UNLABELLED), 3)
    assert blind.to_row() == {"pseudo_coverage": 0.8}
    assert PseudoLabels.none(3).to_row() == {}


def test_metrics_read_back():
    assert PseudoLabels.of_metrics({"other": 1.0, **counted().to_metrics()}, 3) == counted()


@pytest.mark.parametrize(
    "claim",
    [
        {"pseudo-trusted": 6},
        {"pseudo-trusted": -1},
        {"pseudo-guessed": 10**12},
        {"pseudo-guessed": 5.0},
        {"pseudo-guessed": True},
        {"pseudo-guessed": [5]},
        {"pseudo-known": 3},
        {"pseudo-known": [1, 3]},
        {"pseudo-known": [5, 3, 0]},
        {"pseudo-known": [1.0, 3.0, 0.0]},
        {"pseudo-right": [1, 3, 0]},
        {"pseudo-right": [2, 0, 0]},
    ],
)
def test_impossible_claims_are_refused_and_left_out_of_the_sum(claim):
    metrics = counted().to_metrics() | claim
    with pytest.raises(DataError, match="pseudo-labels"):
        PseudoLabels.of_metrics(metrics, 3)
    tally = PseudoLabelTally(3)
    tally.add(metrics)
    tally.add({"num-examples": 3.0})
    assert tally.take() == {}
