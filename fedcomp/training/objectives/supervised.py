"""Learning from labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional as F

from fedcomp.training.objectives.objective import Begun, Step
from fedcomp.training.views import plain

if TYPE_CHECKING:
    from torch import Generator

    from fedcomp.training.augmentation.mixing import Mix
    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict
    from fedcomp.training.objectives.objective import Received
    from fedcomp.training.views import View


@dataclass(frozen=True)
class Supervised:
    """Cross-entropy on labelled examples; unlabelled ones are ignored.

    Args:
        num_classes: 2 or more.
        view: How the examples are shown.
        smoothing: In [0, 1): share of a label that is spread over all classes (Szegedy et al., CVPR 2016, section 7).
        mix: Mixes examples with each other, and their labels; None for no mixing.
        mix_alpha: Of the Beta distribution of shares.
    """

    num_classes: int
    view: View = plain
    smoothing: float = 0.0
    mix: Mix | None = None
    mix_alpha: float = 0.75

    def begin(self, received: Received) -> Begun[None]:
        """Leave all unlabelled examples out."""
        return Begun(received.unlabelled.take(received.unlabelled.labels.new_empty(0)), None)

    def __call__(
        self,
        predict: Predict,
        labelled: Batch | None,
        unlabelled: Batch | None,
        generator: Generator,
        state: None = None,
    ) -> Step[None]:
        """Return the cross-entropy; raises `ValueError` without labelled examples."""
        if labelled is None:
            raise ValueError("the supervised objective needs labelled examples")
        inputs, targets = self.view(labelled.inputs, generator), labelled.labels
        if self.mix:
            one_hot = F.one_hot(targets, self.num_classes).float()
            inputs, targets, _ = self.mix(inputs, one_hot, generator, self.mix_alpha)
        return Step(F.cross_entropy(predict(inputs), targets, label_smoothing=self.smoothing), None)
