"""Error feedback: what a codec dropped is added to the next update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from fedcomp.types import ModelDelta


@dataclass(frozen=True, slots=True)
class ErrorFeedback:
    r"""Residual in, residual out: ``total = delta + decay * residual`` is sent, ``total - received`` remains.

    With decay 1 nothing is ever lost: the sum of what was received plus the residual is the sum of the updates.
    Below 1 old errors fade, which is safer where a client takes part rarely.

    Commit only what the server took: after a lost or refused update the whole total is the residual.

    Args:
        decay: In [0, 1]; 0 switches feedback off.

    References:
        Seide et al., 1-Bit Stochastic Gradient Descent, Interspeech 2014, section 3.1;
        Karimireddy et al., Error Feedback Fixes SignSGD, ICML 2019, algorithm 2.

    Example:
        >>> import numpy as np
        >>> feedback = ErrorFeedback()
        >>> total = feedback.compensate({"w": np.float32([1.0, 0.25])}, residual={"w": np.float32([0.0, 0.5])})
        >>> feedback.residual(total, received={"w": np.float32([1.0, 0.0])})["w"].tolist()
        [0.0, 0.75]
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise UsageError(f"residual decay is {self.decay}, expected 0 to 1")

    def compensate(self, delta: ModelDelta, residual: ModelDelta | None) -> ModelDelta:
        """Return what to send: the fresh update plus the decayed residual. Integers have none."""
        if residual is None or not self.decay:
            return delta
        return {
            name: values + values.dtype.type(self.decay) * residual[name] if values.dtype.kind == "f" else values
            for name, values in delta.items()
        }

    def residual(self, total: ModelDelta, received: ModelDelta) -> ModelDelta:
        """Return what the receiver lacks, by the decoder's own word."""
        return {name: values - received[name] for name, values in total.items()}
