"""The two-layer perceptron of McMahan et al., AISTATS 2017, section 3."""

from __future__ import annotations

from math import prod

from torch import nn


def perceptron(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build pixels - 200 - 200 - classes: 199,210 parameters on 28 x 28 and ten classes."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(image_shape), 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, num_classes),
    )
