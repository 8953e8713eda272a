"""What the server tells a client about compression: one ConfigRecord beside the app's own records."""

from __future__ import annotations

from dataclasses import dataclass

ORDER_KEY = "fedcomp"
"""The record's key in a message; `compression_mod` takes the record out before the app sees the message."""

NO_CODEC = "none"
"""The codec name that means: send plain float arrays. Every other check and count stays the same."""


@dataclass(frozen=True, slots=True)
class CompressionOrder:
    """How a client shall send this round's update.

    Args:
        codec: Codec text, or `NO_CODEC`.
        seed: The run's seed for stochastic stages.
        round: Server round, from 1.
        residual_decay: See `ErrorFeedback`; 0 switches it off.
        momentum_correction: See `ErrorFeedback`; 0 switches it off.
        acknowledged: The last round of which the server took this client's update, 0 if none.
        refused: The last round of which the server refused this client's update for its values, 0 if none: what it
            meant to send then shall be forgotten.
        lineage: Names the training; see `lineage`.
        budget: Most bytes of the update's frame; 0 for no limit.
        references: Fingerprints of earlier models, which this client holds, that the frame shall be coded with.
        zeros_stay: Whether weights that are zero in the model are pruned: nothing is owed to them any more.
        is_authenticated: Whether the frame must be sealed with this client's key.
    """

    codec: str
    seed: int
    round: int
    residual_decay: float
    momentum_correction: float
    acknowledged: int
    refused: int
    lineage: str
    budget: int = 0
    zeros_stay: bool = False
    is_authenticated: bool = False
    references: tuple[int, ...] = ()
