"""A client without torch in a process of its own: what an edge device runs, with a stand-in for the training.

It is run by its path and not as a module, so that it imports what such a client does and nothing of the benchmarks.
Its one argument is the descriptor of a connection, over which `ClientProcess` leads it step by step.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import time
from math import prod
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

from fedcomp.flower import compression_mod, to_array_record, to_model
from fedcomp.seeding import derive_rng

if TYPE_CHECKING:
    from flwr.clientapp.typing import ClientAppCallable, Mod

    from fedcomp.flower.client.receiving import InitialModel
    from fedcomp.types import NDArray

_RANK, _BLOCK = 8, 64
_STEP, _NOISE = np.float32(1e-3), np.float32(0.5)


class Stopwatch:
    """A mod behind `compression_mod`: notes when the model has been decoded, and when it has been trained."""

    def __init__(self) -> None:
        self.decoded = self.trained = 0.0

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Note both times."""
        self.decoded = time.perf_counter()
        reply = call_next(message, context)
        self.trained = time.perf_counter()
        return reply


def make_client(*inner_mods: Mod, initial: InitialModel | None = None) -> ClientApp:
    """Return a client that compresses; `inner_mods` see its own replies."""
    app = ClientApp(mods=[compression_mod(initial=initial), *inner_mods])
    app.train()(train)
    return app


def train(message: Message, context: Context) -> Message:
    """Move the model as training might."""
    (arrays,), (instructions,) = message.content.array_records.values(), message.content.config_records.values()
    rng = derive_rng(0, "benchmark", str(instructions["server-round"]), str(message.metadata.dst_node_id))
    model = {name: _move(values, rng) for name, values in to_model(arrays).items()}
    content = RecordDict({"arrays": to_array_record(model), "metrics": MetricRecord({"num-examples": 600})})
    return Message(content, reply_to=message)


def _move(values: NDArray, rng: np.random.Generator) -> NDArray:
    """Return values with a step added: of a few directions, as gradients have, and noise of half of their norm."""
    moved = np.empty((len(values), prod(values.shape[1:])), np.float32)
    directions = rng.standard_normal((_RANK, moved.shape[1]), np.float32) / np.float32(_RANK**0.5)
    # In blocks: the stand-in shall take no memory that a client's own training would not.
    for start in range(0, len(moved), _BLOCK):
        block = moved[start : start + _BLOCK]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= _NOISE
        block += rng.standard_normal((len(block), _RANK), np.float32) @ directions
    moved *= _STEP
    moved = moved.reshape(values.shape)
    moved += values
    return moved


def serve(channel: Connection) -> None:
    """Do rounds until the other end is closed. Each step waits for a word, so that memory is read in between."""
    stopwatch = Stopwatch()
    client = make_client(stopwatch)
    context = Context(run_id=1, node_id=1, node_config={"partition-id": 0}, state=RecordDict(), run_config={})
    channel.send_bytes(b"idle")
    while True:
        try:
            message = message_from_proto(MessageProto.FromString(channel.recv_bytes()))
        except EOFError:
            return
        _give_back_memory()
        channel.send_bytes(b"ready")
        channel.recv_bytes()
        started = time.perf_counter()
        reply = client(message, context)
        times = {"decode": stopwatch.decoded - started, "encode": time.perf_counter() - stopwatch.trained}
        channel.send_bytes(json.dumps(times).encode())
        channel.recv_bytes()
        channel.send_bytes(message_to_proto(reply).SerializeToString())


def _give_back_memory() -> None:
    """Give back what reading the message has freed: of a real transport it would be another amount."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
