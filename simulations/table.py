"""A table with few labels: scikit-learn's breast-cancer measurements, ten clients, a tenth of the labels each.

::

    python -m simulations.table [--rounds 20] [--seed 0]

Views of a row: noise on all of its numbers (weak), and half of them replaced by their mean (strong). FixMatch on them
is compared with labels alone, and compressed both ways with float32.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fedcomp.data import partition_labels
from fedcomp.seeding import derive_rng, derive_seed
from fedcomp.training import Batch, LocalSettings, ObjectiveSettings, make_objective
from simulations.small_task import Examples, Outcome, Task, print_outcomes, run_task

if TYPE_CHECKING:
    from torch import Generator

    from fedcomp.types import NDArray

NUM_CLIENTS, NUM_CLASSES, LABEL_FRACTION = 10, 2, 0.1


@dataclass(frozen=True)
class RowViews:
    """Views of rows (B, F) whose columns have mean 0 and variance 1.

    Args:
        noise: Standard deviation of what both views add.
        dropped: Share of the numbers that the strong view sets to their mean.
    """

    noise: float = 0.1
    dropped: float = 0.5

    def weak(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Add noise."""
        return inputs + self.noise * torch.randn(inputs.shape, generator=generator).to(inputs.device)

    def strong(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Add noise, and drop numbers."""
        kept = torch.rand(inputs.shape, generator=generator) >= self.dropped
        return self.weak(inputs, generator) * kept.to(inputs.device)


@lru_cache(maxsize=1)
def rows() -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return training and test rows, float32, standardized, and their labels, int64."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    table, labels = load_breast_cancer(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        table, labels.astype(np.int64), test_size=0.3, stratify=labels, random_state=0
    )
    mean, std = train.mean(axis=0), train.std(axis=0)
    train, test = (((part - mean) / std).astype(np.float32) for part in (train, test))
    return train, test, train_labels, test_labels


def build(seed: int) -> nn.Module:
    """Build a perceptron of 2,114 parameters with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "model"))
        return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES))


def task(objective: str, seed: int) -> Task:
    """Return the task for one objective."""
    train, test, train_labels, test_labels = rows()
    parts = partition_labels(train_labels, num_clients=NUM_CLIENTS, scheme="iid", seed=seed)

    def examples(client: int) -> Examples:
        order = derive_rng(seed, "labelled", client).permutation(parts[client])
        count = max(1, round(LABEL_FRACTION * len(order)))
        return Examples(
            *(
                Batch(torch.from_numpy(train[i]), torch.from_numpy(train_labels[i]))
                for i in (order[:count], order[count:])
            )
        )

    def measure(model: nn.Module) -> float:
        with torch.inference_mode():
            found = model(torch.from_numpy(test)).argmax(dim=1)
        return float((found == torch.from_numpy(test_labels)).float().mean())

    return Task(
        build=build,
        clients=[examples(client) for client in range(NUM_CLIENTS)],
        measure=measure,
        objective=make_objective(ObjectiveSettings(objective=objective, pseudo_threshold=0.9), RowViews(), NUM_CLASSES),
        settings=LocalSettings(epochs=2, batch_size=4, unlabelled_ratio=4, learning_rate=0.02),
    )


def run(num_rounds: int, seed: int = 0) -> dict[str, Outcome]:
    """Train with float32 and compressed, and with labels alone."""
    up, down = "topk(density=0.1) | ternary", "q4"
    runs = {
        "FixMatch, float32": ("fixmatch", "none", "none"),
        "FixMatch, compressed": ("fixmatch", up, down),
        "labels only, compressed": ("supervised", up, down),
    }
    return {
        name: run_task(task(objective, seed), codec=codec, downlink=downlink, num_rounds=num_rounds, seed=seed)
        for name, (objective, codec, downlink) in runs.items()
    }


def main() -> None:
    """Run it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print_outcomes(run(arguments.rounds, arguments.seed), "FixMatch, float32")


if __name__ == "__main__":
    main()
