"""Where the bytes of an update go, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.seeding import derive_rng

if TYPE_CHECKING:
    from fedcomp.codecs import ByteLedger, Codec
    from fedcomp.types import ModelDelta


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """One tensor's share of an update.

    Args:
        tensor: Its name.
        num_values: In it.
        ledger: Of the frame that holds this tensor alone.
    """

    tensor: str
    num_values: int
    ledger: ByteLedger


def bytes_by_tensor(update: ModelDelta, codec: Codec, *, seed: int = 0) -> list[TensorBytes]:
    """Encode each tensor of an update alone.

    Their bytes do not sum to those of the whole update: each frame has a header of its own, and what a codec shares
    among all tensors, such as a density, is spent on each alone.

    Args:
        update: Final minus initial weights.
        codec: Any; it is given no context.
        seed: For stochastic stages.
    """
    return [
        TensorBytes(name, values.size, codec.encode({name: values}, rng=derive_rng(seed, "codec", name)).ledger)
        for name, values in update.items()
    ]
