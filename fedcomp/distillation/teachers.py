"""Teachers: who labels the proxy images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from fedcomp.errors import ConfigError, RunError
from fedcomp.models import set_weights
from fedcomp.training import evaluate, predict_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from fedcomp.data import ImageDataset
    from fedcomp.types import Model

_CHANCE_MARGIN = 1.5


def _probabilities(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _as_logits(probabilities: Tensor) -> Tensor:
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


_AVERAGES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "logits": (torch.Tensor.clone, torch.Tensor.clone),
    "probabilities": (_probabilities, _as_logits),
}
"""What is done to the logits of each, and to their mean."""


class Teacher(Protocol):
    """Somebody whose logits a student imitates."""

    def logits(self) -> Tensor:
        """Return logits (N, K) on the proxy images."""
        ...


class GlobalTeacher:
    """The global model as the only teacher: needs no client's model, so it goes with secure aggregation."""

    def __init__(self, model: nn.Module, proxy: ImageDataset) -> None:
        self._model, self._proxy = model, proxy

    def logits(self) -> Tensor:
        """Return the global model's logits."""
        return predict_logits(self._model, self._proxy.images)


class EnsembleTeacher:
    """The clients' models, averaged in their answers; each model is seen once and forgotten.

    A model that is no better than chance on the validation set is left out: it must find at least 1.5 times the
    share of right labels that guessing finds. So is one whose logits are not finite.

    Args:
        model: Scratch model of the clients' architecture; its weights are overwritten.
        proxy: The images to label.
        validation: Decides who is at chance.
        average: What is averaged: ``logits``, or ``probabilities``, which weighs the sure and the unsure alike.

    Raises:
        ConfigError: `average` is neither.

    References:
        Lin et al., Ensemble Distillation for Robust Model Fusion (FedDF), NeurIPS 2020, section 3, algorithm 1.
    """

    def __init__(
        self, model: nn.Module, proxy: ImageDataset, validation: ImageDataset, *, average: str = "logits"
    ) -> None:
        if average not in _AVERAGES:
            raise ConfigError(f"teacher-average is {average!r}, expected {' or '.join(_AVERAGES)}")
        self._model, self._proxy, self._validation = model, proxy, validation
        self._to_mean, self._from_mean = _AVERAGES[average]
        # In float64 the order in which clients come changes no more than a last bit.
        self._sum: Tensor = torch.zeros(len(proxy), proxy.num_classes, dtype=torch.float64)
        self.num_teachers = 0
        self.num_dropped = 0

    def add(self, weights: Model) -> None:
        """Let one client's model vote, if it is better than chance."""
        set_weights(self._model, weights)
        accuracy = evaluate(self._model, self._validation).accuracy
        logits = predict_logits(self._model, self._proxy.images)
        if accuracy < _CHANCE_MARGIN / self._proxy.num_classes or not logits.isfinite().all():
            self.num_dropped += 1
            return
        self._sum += self._to_mean(logits)
        self.num_teachers += 1

    def hear(self, clients: Iterator[Model]) -> None:
        """Let all vote, one after the other; none is held while the next one is made."""
        for weights in clients:
            self.add(weights)
            del weights  # else it would stay until the loop binds the name anew, when the next one is there already

    def logits(self) -> Tensor:
        """Return the mean as logits; raises `RunError` if no teacher was better than chance."""
        if not self.num_teachers:
            raise RunError(f"none of {self.num_dropped} client models is better than chance: nobody can teach")
        return self._from_mean((self._sum / self.num_teachers).float())
