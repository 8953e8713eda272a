"""fedcomp for any Flower app, in any framework: one mod at the client, one strategy around yours at the server.

::

    app = ClientApp(mods=[compression_mod()])
    strategy = CompressedStrategy(FedAvg(), codec="thin")

The way of a model: `downlink` (difference to what the client holds, codec) -> one Array of bytes -> `receiving`
(checks) -> the app. Without a downlink codec it is the plain arrays in the message.

The way of an update: `mod` (difference, error feedback, codec) -> one Array of bytes -> `screening` (every check) ->
`feed` and `fold` (running mean) -> the inner strategy. `streaming_grid` and `courier`: replies of a deployment, as they
come. `resumable` and `checkpoint`: how a run goes on after a kill.
"""

from fedcomp.flower.authentication import FrameKey, FrameKeys
from fedcomp.flower.budget import Budget, GrowingBudget
from fedcomp.flower.checkpoint import CheckpointFolder, StatefulGrid
from fedcomp.flower.client_state import keep_state_mod
from fedcomp.flower.mod import compression_mod
from fedcomp.flower.records import num_bytes, to_array_record, to_model
from fedcomp.flower.resumable import ResumableStrategy
from fedcomp.flower.screening import AcceptedUpdate
from fedcomp.flower.snapshot import Snapshot
from fedcomp.flower.strategy import CompressedStrategy
from fedcomp.flower.streaming_grid import StreamingGrid, streaming
from fedcomp.flower.traffic import RoundTraffic

__all__ = [
    "AcceptedUpdate",
    "Budget",
    "CheckpointFolder",
    "CompressedStrategy",
    "FrameKey",
    "FrameKeys",
    "GrowingBudget",
    "ResumableStrategy",
    "RoundTraffic",
    "Snapshot",
    "StatefulGrid",
    "StreamingGrid",
    "compression_mod",
    "keep_state_mod",
    "num_bytes",
    "streaming",
    "to_array_record",
    "to_model",
]
