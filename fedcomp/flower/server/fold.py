"""The running weighted mean: each update is folded in as it arrives and then forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs import ProductSum
from fedcomp.types import round_within

if TYPE_CHECKING:
    from fedcomp.codecs import DecodedUpdate
    from fedcomp.types import Model, NDArray


class WeightedMean:
    """``base + sum(weight * update) / sum(weight)``.

    Sums are float64, so the order of arrival changes nothing beyond the last bits of a float32 model. Updates that came
    as products are expanded some at a time, in that order; see `ProductSum`. Memory is two float32 models and the
    factors of a few updates, however many arrive.

    Args:
        base: The global model that the updates are relative to.
    """

    def __init__(self, base: Model) -> None:
        self._base = base
        self._sums = {name: np.zeros(values.size) for name, values in base.items()}
        self._products = ProductSum(self._sums)
        self.total_weight = 0.0

    def add(self, update: DecodedUpdate, weight: float) -> None:
        """Fold one update in; `weight` is positive and finite."""
        update.add_to(self._sums, weight, self._products)
        self.total_weight += weight

    def model(self) -> Model:
        """Return the mean of the clients' models, in the base's types; at least one update must have come.

        Integers are rounded, and so are booleans. What is beyond a type's range becomes the nearest that it has.
        """
        self._products.flush()
        return {name: self._mean(name, base) for name, base in self._base.items()}

    def _mean(self, name: str, base: NDArray) -> NDArray:
        mean = base + self._sums[name].reshape(base.shape) / self.total_weight
        return round_within(mean, base.dtype)
