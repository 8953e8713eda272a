"""What the server tells a client about compression: one ConfigRecord beside the app's own records."""

from __future__ import annotations

from dataclasses import dataclass

from fedcomp.codecs import NO_CODEC, ErrorFeedback
from fedcomp.errors import UsageError
from fedcomp.flower.messages.budget import check_scalable
from fedcomp.printable import printable

ORDER_KEY = "fedcomp"
"""The record's key in a message; `compression_mod` takes the record out before the app sees the message."""

_LAST_ROUND = 2**32 - 1  # that a frame's header can name
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class CompressionOrder:
    """How a client shall send this round's update.

    Both ends make it, so both find what is out of range: the server its own flaw, the client a server's.

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

    Raises:
        UsageError: A number is out of range, a text is empty, too long or not printable, or the codec does not parse or
            can not keep to the budget.
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

    def __post_init__(self) -> None:
        for name in ("codec", "lineage"):
            text = getattr(self, name)
            if not 0 < len(text) <= _LONGEST_TEXT:
                raise UsageError(f"the order's {name} has {len(text)} characters, expected 1 to {_LONGEST_TEXT}")
            if not text.isprintable():
                raise UsageError(f"the order's {name} is {printable(text)}, expected printable characters alone")
        if not 1 <= self.round <= _LAST_ROUND:
            raise UsageError(f"the order's round is {self.round}, expected 1 to {_LAST_ROUND}")
        for name in ("acknowledged", "refused", "budget"):
            if (number := getattr(self, name)) < 0:
                raise UsageError(f"the order's {name} is {number}, expected 0 or more")
        ErrorFeedback(self.residual_decay, self.momentum_correction)
        if self.codec != NO_CODEC:
            check_scalable(self.codec, self.budget)
