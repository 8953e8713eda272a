"""Error feedback: what a codec dropped is added to the next update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from fedcomp.types import ModelDelta


@dataclass(frozen=True, slots=True)
class ErrorFeedback:
    r"""Residual in, residual out: ``total = delta + decay * residual`` is sent, ``total - received`` remains.

    With decay 1 nothing is ever lost: the sum of what was received plus the residual is the sum of the updates.
    Below 1 old errors fade, which is safer where a client takes part rarely.

    With momentum it is the velocity, ``momentum * velocity + delta``, that takes the place of the update (DGC's
    momentum correction). Where a coordinate was sent its velocity starts again from zero (momentum factor masking): it
    would push on for rounds in a direction that is out of date.

    Commit only what the server took: after a lost update the whole total is the residual, and the velocity stays.

    Args:
        decay: In [0, 1]; 0 switches feedback off.
        momentum: In [0, 1); 0 switches momentum off.

    References:
        Seide et al., 1-Bit Stochastic Gradient Descent, Interspeech 2014, section 3.1;
        Karimireddy et al., Error Feedback Fixes SignSGD, ICML 2019, algorithm 2;
        Lin et al., Deep Gradient Compression, ICLR 2018, sections 3.2 (momentum correction) and 3.3 (masking).

    Example:
        >>> import numpy as np
        >>> feedback = ErrorFeedback()
        >>> total = feedback.compensate({"w": np.float32([1.0, 0.25])}, residual={"w": np.float32([0.0, 0.5])})
        >>> feedback.residual(total, received={"w": np.float32([1.0, 0.0])})["w"].tolist()
        [0.0, 0.75]
    """

    decay: float = 1.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise UsageError(f"residual decay is {self.decay}, expected 0 to 1")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum correction is {self.momentum}, expected 0 to less than 1")

    def accelerate(self, delta: ModelDelta, velocity: ModelDelta | None) -> ModelDelta:
        """Return the new velocity, which takes the update's place: the update itself without momentum."""
        return _add_scaled(delta, self.momentum, velocity)

    def compensate(self, delta: ModelDelta, residual: ModelDelta | None) -> ModelDelta:
        """Return what to send: the fresh update plus the decayed residual. Integers have none."""
        return _add_scaled(delta, self.decay, residual)

    def residual(self, total: ModelDelta, received: ModelDelta) -> ModelDelta:
        """Return what the receiver lacks, by the decoder's own word."""
        return {name: values - received[name] for name, values in total.items()}

    def mask(self, velocity: ModelDelta, received: ModelDelta) -> ModelDelta:
        """Return the velocity without the coordinates that were received."""
        return {name: np.where(received[name] == 0, values, values.dtype.type(0)) for name, values in velocity.items()}


def _add_scaled(delta: ModelDelta, factor: float, rest: ModelDelta | None) -> ModelDelta:
    if rest is None or not factor:
        return delta
    return {
        name: values + values.dtype.type(factor) * rest[name] if values.dtype.kind == "f" else values
        for name, values in delta.items()
    }
