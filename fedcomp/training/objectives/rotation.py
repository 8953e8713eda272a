"""Learn without labels how images are up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp.models import QUARTER_TURNS
from fedcomp.training.objectives.objective import Begun, Step

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict
    from fedcomp.training.objectives.objective import Received
    from fedcomp.training.views import View


@dataclass(frozen=True)
class Rotation:
    """Cross-entropy of how many quarter turns an image was turned by; no label is looked at.

    All clients have all four answers in equal shares, however skewed their classes are: no output is one client's.

    Args:
        view: How images are shown before they are turned, a weak one.

    References:
        Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018, section 2 (there
        each image is in a batch with all of its turns, here with one).
    """

    view: View

    def begin(self, received: Received) -> Begun[None]:
        """Train on all examples."""
        return Begun(received.unlabelled, None)

    def __call__(
        self,
        predict: Predict,
        labelled: Batch | None,
        unlabelled: Batch | None,
        generator: Generator,
        state: None = None,
    ) -> Step[None]:
        """Return the loss; `predict` gives a logit for each turn, as `rotation_network` does."""
        images = torch.cat([batch.inputs for batch in (labelled, unlabelled) if batch is not None])
        turns = torch.randint(QUARTER_TURNS, (len(images),), generator=generator).to(images.device)
        return Step(F.cross_entropy(predict(turn(self.view(images, generator), turns)), turns), None)


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image by its own number of quarters, counterclockwise.

    Args:
        images: (B, C, S, S).
        turns: (B,), int64, in 0 to 3.

    Returns:
        (B, C, S, S).
    """
    turned = torch.empty_like(images)
    for quarters in range(QUARTER_TURNS):
        chosen = turns == quarters
        turned[chosen] = torch.rot90(images[chosen], quarters, dims=(2, 3))
    return turned
