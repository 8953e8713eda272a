"""An update codec for a budget of bytes: what keeps most of a recorded update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs import PRESETS, decode, parse_codec
from fedcomp.errors import UsageError
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.types import ModelDelta

CODECS = (
    PRESETS["thin"],
    PRESETS["ultra"],
    "lowrank(rank=4) | deadzone(step=1.0)",
    "keep(below=64) | deadzone(step=1.0)",
    "keep(below=64) | balance | deadzone(step=1.0)",
    "rotate | deadzone(step=1.0)",
    "topk(density=0.01) | ternary",
    "topk(density=0.01) | uniform(bits=4)",
    "keep(below=64) | topk(density=0.01) | ternary",
    "rows(density=0.1) | uniform(bits=4)",
)
"""Each can be scaled to a budget; families that docs/codecs.md compares."""


@dataclass(frozen=True, slots=True)
class FittedCodec:
    """A codec scaled to a budget.

    Args:
        codec: Its text.
        num_bytes: Of the frame, at most the budget.
        squared_error: Of what is decoded, over the update's squared norm; 0 of an update that is all zero.
    """

    codec: str
    num_bytes: int
    squared_error: float


def fit_codecs(
    update: ModelDelta, budget: int, *, seed: int = 0, codecs: Sequence[str] = CODECS
) -> tuple[list[FittedCodec], dict[str, str]]:
    """Encode an update by each codec within a budget, and measure what is left of it.

    Args:
        update: Final minus initial weights, or any other.
        budget: Most bytes of a frame.
        seed: For stochastic stages.
        codecs: Texts of codecs that can be scaled.

    Returns:
        Those that fit, the least error first, and why each of the others does not.

    Raises:
        UsageError: None fits.
    """
    fitted, refused = [], {}
    for text in codecs:
        try:
            frame = parse_codec(text).encode(update, rng=derive_rng(seed, "codec"), budget=budget).frame
        except UsageError as error:
            refused[text] = str(error)
            continue
        fitted.append(FittedCodec(text, len(frame), _squared_error(update, decode(frame, ModelSpec.of(update)))))
    if not fitted:
        raise UsageError("; ".join(dict.fromkeys(refused.values())))
    return sorted(fitted, key=lambda one: (one.squared_error, one.num_bytes)), refused


def _squared_error(update: ModelDelta, decoded: ModelDelta) -> float:
    wrong = sum(float(np.square(update[name] - decoded[name], dtype=np.float64).sum()) for name in update)
    norm = sum(float(np.square(values, dtype=np.float64).sum()) for values in update.values())
    return wrong / norm if norm else 0.0
