"""Learn without labels that two views of an example are of the same example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp.training.objectives.objective import Begun, Step

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict
    from fedcomp.training.objectives.objective import Received
    from fedcomp.training.views import View


@dataclass(frozen=True)
class SimSiam:
    """Negative cosine similarity of one view's prediction and the other's projection, which has no gradient.

    ``-(cos(p1, stop(z2)) + cos(p2, stop(z1))) / 2`` over two views of every example; no label is looked at.

    Args:
        view: How the examples are shown, a strong one.

    References:
        Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, section 3, equations 1 to 4.
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
        """Return the loss; `predict` gives projection and prediction, as `SimSiamNetwork` does."""
        inputs = torch.cat([batch.inputs for batch in (labelled, unlabelled) if batch is not None])
        first, second = self.view(inputs, generator), self.view(inputs, generator)
        (z1, p1), (z2, p2) = (predict(view).unbind(dim=1) for view in (first, second))
        similarity = F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()
        return Step(-similarity / 2, None)


def output_spread(outputs: Tensor) -> float:
    """Measure how far outputs are from all being the same: 0 is a collapse, 1 as spread as a Gaussian.

    It is measured on what will be used, the backbone's features: the projector's output is standardized by the batch.

    Args:
        outputs: (N, D).

    Returns:
        Mean over dimensions of the standard deviation of ``z / |z|``, times ``sqrt(D)`` (the paper's section 4.1).
    """
    normalized = F.normalize(outputs, dim=1)
    return float(normalized.std(dim=0).mean() * outputs.shape[1] ** 0.5)
