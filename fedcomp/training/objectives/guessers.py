"""Who guesses the labels of unlabelled examples: the model in training, or a teacher that it once was."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol

import torch

from fedcomp.models import evaluation_mode
from fedcomp.training.compute import in_precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedcomp.training.compute import Predict
    from fedcomp.training.objectives.objective import Received

_BATCH_SIZE = 64  # of passes without gradient: larger ones leave a processor's cache


class Guesser(Protocol):
    """Somebody who guesses."""

    def __call__(self, inputs: Tensor, predict: Predict) -> Tensor:
        """Return probabilities (B, K), without gradient; `predict` is the model in training."""
        ...


class Student:
    """The model in training itself."""

    def __call__(self, inputs: Tensor, predict: Predict) -> Tensor:
        """Ask it as it is now."""
        with torch.no_grad():
            return predict(inputs).softmax(dim=1)


class Teacher:
    """A copy of the received model, fixed or following the model in training.

    Args:
        model: The model in training, as it was received.
        decay: In [0, 1], of the moving average of weights that the copy is; 1 is the received model for ever.
        precision: Of its passes.

    References:
        Tarvainen and Valpola, Mean teachers, NeurIPS 2017, section 2.
    """

    def __init__(self, model: nn.Module, *, decay: float = 1.0, precision: str = "float32") -> None:
        self._student, self._decay = model, decay
        self._model = copy.deepcopy(model).eval()
        device = next(model.parameters()).device
        self._predict = in_precision(self._model, precision, device.type)

    def __call__(self, inputs: Tensor, predict: Predict) -> Tensor:
        """Follow the student, then guess."""
        with torch.no_grad():
            if self._decay < 1:
                for own, followed in zip(self._model.parameters(), self._student.parameters(), strict=True):
                    own.lerp_(followed, 1 - self._decay)
            return self._predict(inputs).softmax(dim=1)


def guess_all(received: Received) -> Tensor:
    """Return the received model's probabilities (N, K) of all unlabelled examples, as they are, in evaluation mode."""
    with evaluation_mode(received.model), torch.no_grad():
        batches = received.unlabelled.inputs.split(_BATCH_SIZE)
        return torch.cat([received.predict(batch).softmax(dim=1) for batch in batches])
