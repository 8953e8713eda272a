"""What server and clients share: the model, the images, and how a model is measured."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from fedcomp import Model
    from fedcomp.types import NDArray

NUM_CLASSES, NUM_PIXELS = 10, 64


class Examples(NamedTuple):
    """Images, float64, (N, 64), from 0 to 1, and their labels, int64, (N,)."""

    images: NDArray
    labels: NDArray


def initial_model() -> Model:
    """Return 650 zeros: the problem is convex, and needs no random start."""
    return {
        "coef": np.zeros((NUM_CLASSES, NUM_PIXELS), np.float32),
        "intercept": np.zeros(NUM_CLASSES, np.float32),
    }


def to_classifier(model: Model, learning_rate: float = 0.05, seed: int = 0) -> SGDClassifier:
    """Return a classifier that goes on from a model: one logistic regression a class, trained by plain SGD."""
    classifier = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=learning_rate, random_state=seed)
    classifier.classes_ = np.arange(NUM_CLASSES)
    classifier.coef_ = model["coef"].astype(np.float64)
    classifier.intercept_ = model["intercept"].astype(np.float64)
    return classifier


def to_model(classifier: SGDClassifier) -> Model:
    """Return the weights of a classifier."""
    return {"coef": classifier.coef_.astype(np.float32), "intercept": classifier.intercept_.astype(np.float32)}


@lru_cache(maxsize=1)
def load_examples() -> tuple[Examples, Examples]:
    """Return the training images of all clients, and a fifth of all as the server's test images."""
    pixels, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        pixels / 16, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return Examples(train, train_labels), Examples(test, test_labels)


def clients_examples(partition: int, num_partitions: int, seed: int) -> Examples:
    """Return one client's share of the training images: all clients' are alike in size and distribution."""
    train, _ = load_examples()
    order = np.random.default_rng(seed).permutation(len(train.labels))
    share = np.array_split(order, num_partitions)[partition]
    return Examples(train.images[share], train.labels[share])
