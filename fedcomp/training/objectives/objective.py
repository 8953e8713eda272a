"""What every objective is: a loss of two batches, with a state that lives for one local training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict
    from fedcomp.training.pseudo_labels import PseudoLabels

State = TypeVar("State")


class Received(NamedTuple):
    """What a client begins a round with.

    Args:
        model: As it was received. It is the one that will be trained; who wants to keep it copies it.
        predict: The model as a function, in the precision of the training.
        unlabelled: All of the client's unlabelled examples; may be empty.
        precision: Of the training, see `Compute`.
    """

    model: nn.Module
    predict: Predict
    unlabelled: Batch
    precision: str = "float32"


class Begun(NamedTuple, Generic[State]):
    """What an objective makes of it.

    Args:
        unlabelled: The examples to train on: all, fewer, none.
        state: For the first step.
        guessed: The pseudo-labels that were made already; None if they are made in the steps.
    """

    unlabelled: Batch
    state: State
    guessed: PseudoLabels | None = None


@dataclass(frozen=True, slots=True)
class Step(Generic[State]):
    """One step.

    Args:
        loss: To minimize; a scalar.
        state: For the next step.
        guessed: The pseudo-labels that were made in this step; None if there were none.
    """

    loss: Tensor
    state: State
    guessed: PseudoLabels | None = None


class Objective(Protocol):
    """Turns batches into losses."""

    def begin(self, received: Received) -> Begun[Any]:
        """Prepare for one local training."""
        ...

    def __call__(
        self, predict: Predict, labelled: Batch | None, unlabelled: Batch | None, generator: Generator, state: Any
    ) -> Step[Any]:
        """Return one step; at least one of the batches is given."""
        ...
