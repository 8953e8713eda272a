"""fedcomp for any Flower app, in any framework: one mod at the client, one strategy around yours at the server.

::

    app = ClientApp(mods=[compression_mod()])
    strategy = CompressedStrategy(FedAvg(), codec="thin")

The way of an update: `mod` (difference, error feedback, codec) -> one Array of bytes -> `screening` (every check) ->
`feed` and `fold` (running mean) -> the inner strategy.
"""

from fedcomp.flower.mod import compression_mod
from fedcomp.flower.order import NO_CODEC
from fedcomp.flower.records import to_array_record, to_model
from fedcomp.flower.screening import AcceptedUpdate
from fedcomp.flower.strategy import CompressedStrategy
from fedcomp.flower.traffic import RoundTraffic

__all__ = [
    "NO_CODEC",
    "AcceptedUpdate",
    "CompressedStrategy",
    "RoundTraffic",
    "compression_mod",
    "to_array_record",
    "to_model",
]
