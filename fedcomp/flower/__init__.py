"""fedcomp for any Flower app, in any framework: one mod at the client, one strategy around yours at the server.

::

    app = ClientApp(mods=[compression_mod()])
    strategy = CompressedStrategy(FedAvg(), codec="thin")

The way of a model: `server.downlink` (difference to what the client holds, codec) -> one Array of bytes ->
`client.receiving` (checks) -> the app. Without a downlink codec it is the plain arrays in the message.

The way of an update: `client.mod` (difference, error feedback, codec) -> one Array of bytes -> `server.screening` (each
check) -> `server.feed` and `server.fold` (running mean) -> the inner strategy. What both sides read and write is in
`messages`; `grid`: replies of a deployment, as they come; `resumable`, `checkpoint`, `state`: how a run goes on after a
kill.
"""

from fedcomp.flower.checkpoint import CheckpointFolder, StatefulGrid
from fedcomp.flower.client.client_state import keep_state_mod
from fedcomp.flower.client.mod import compression_mod
from fedcomp.flower.grid.streaming_grid import StreamingGrid, streaming
from fedcomp.flower.messages.authentication import FrameKey, FrameKeys
from fedcomp.flower.messages.budget import Budget, GrowingBudget
from fedcomp.flower.messages.records import num_bytes, to_array_record, to_model
from fedcomp.flower.resumable import ResumableStrategy
from fedcomp.flower.server.screening import AcceptedUpdate
from fedcomp.flower.server.strategy import CompressedStrategy
from fedcomp.flower.server.traffic import RoundTraffic
from fedcomp.flower.state.snapshot import Snapshot

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
