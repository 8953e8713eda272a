"""How fast one core takes updates in, through every check into the mean, and what memory that needs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedcomp.benchmarks.bars import Bar
from fedcomp.benchmarks.memory import peak_memory
from fedcomp.codecs import CodingContext, parse_codec
from fedcomp.flower import CompressedStrategy, to_array_record
from fedcomp.flower.records import frame_to_record
from fedcomp.simulation import flower_log_level
from fedcomp.simulation.identity import task_identity
from fedcomp.types import fingerprint_model
from fedcomp.wire import FrameLimits, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flwr.serverapp import Grid

    from fedcomp.types import Model, ModelDelta, NDArray

_DISTINCT = 8
"""Frames that are encoded; clients take turns with them, each under its own name."""
_RUN, _ROUND = 1, 1


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One round of many updates.

    Args:
        codec: Codec text or preset name.
        references: Whether updates are coded with the help of an earlier model.
        num_updates: Clients of the round.
        num_bytes: Of all frames.
        updates_per_second: By the seconds that the process had a core, so that others on the machine do not count.
        memory: Bytes by which the process grew at most, without the frames themselves; None if unknown.
    """

    codec: str
    references: bool
    num_updates: int
    num_bytes: int
    updates_per_second: float
    memory: int | None


def benchmark_fold(
    delta: ModelDelta, codec: str = "thin", *, references: bool = False, counts: Sequence[int] = (10, 1000)
) -> list[FoldResult]:
    """Measure rounds with different numbers of clients.

    Args:
        delta: A real update: how much of it a codec sends decides about the time.
        codec: Codec text or preset name.
        references: Code updates with the help of an earlier model.
        counts: Clients of each round.
    """
    before = {name: np.zeros(values.shape, values.dtype) for name, values in delta.items()}
    model = {name: _moved(values) for name, values in delta.items()}
    with flower_log_level(logging.ERROR), task_identity(run_id=_RUN, node_id=1):
        rounds = [_Round(model, before if references else None, delta, codec, count) for count in counts]
        rounds[0].speed()  # what is loaded and cached once
        return [each.measure(codec, references) for each in rounds]


def check_fold(results: Sequence[FoldResult]) -> list[Bar]:
    """Return what these results promise: speed, and memory that does not grow with the clients of a round."""
    bars = []
    for of in dict.fromkeys((r.codec, r.references) for r in results):
        own = [r for r in results if (r.codec, r.references) == of]
        what = f"{of[0]}{' with references' if of[1] else ''}"
        speed = max(own, key=lambda r: r.num_updates).updates_per_second
        bars.append(Bar(f"{what}, updates a second and core", ">= 200", f"{speed:.4g}", speed >= 200))
        memory = [r.memory for r in own if r.memory]
        if len(memory) == len(own) > 1:
            growth = max(memory) / memory[0]
            bars.append(Bar(f"{what}, memory over that of fewest clients", "<= 1.1", f"{growth:.3g}", growth <= 1.1))
    return bars


class _Round:
    """A server's round, with the clients' frames ready."""

    def __init__(self, model: Model, initial: Model | None, delta: ModelDelta, codec: str, count: int) -> None:
        self.count, self._model = count, model
        self._strategy = CompressedStrategy(
            FedAvg(fraction_evaluate=0, min_train_nodes=count, min_available_nodes=count), codec=codec, initial=initial
        )
        self.frames = list(_frames(model, initial, delta, codec, count))

    def measure(self, codec: str, references: bool) -> FoldResult:
        """Return speed and memory."""
        memory = peak_memory(self._fold, self._ask)
        return FoldResult(codec, references, self.count, sum(map(len, self.frames)), self.speed(), memory)

    def speed(self) -> float:
        """Return updates a second of processor time."""
        self._ask()
        began = time.process_time()
        self._fold()
        return self.count / (time.process_time() - began)

    def _ask(self) -> None:
        nodes = cast("Grid", _Nodes(self.count))
        asked = self._strategy.configure_train(_ROUND, to_array_record(self._model), ConfigRecord(), nodes)
        self._asked = sorted(asked, key=lambda message: message.metadata.dst_node_id)

    def _fold(self) -> None:
        arrays, _ = self._strategy.aggregate_train(_ROUND, map(_reply, self._asked, self.frames))
        if arrays is None:
            raise RuntimeError("no update was accepted")


class _Nodes:
    """As much of a Grid as a strategy looks at."""

    def __init__(self, count: int) -> None:
        self._count = count

    def get_node_ids(self) -> Iterator[int]:
        return iter(range(1, self._count + 1))


def _reply(message: Message, frame: bytes) -> Message:
    metrics = MetricRecord({"num-examples": 100})
    return Message(RecordDict({"arrays": frame_to_record(frame), "metrics": metrics}), reply_to=message)


def _moved(update: NDArray) -> NDArray:
    """Return how a tensor may have moved before: mostly along the update, as in training."""
    rng = np.random.default_rng(update.size)
    beside = rng.normal(scale=np.sqrt(np.square(update, dtype=np.float64).mean()), size=update.shape)
    return np.asarray(2 * update + beside).astype(update.dtype)


def _frames(model: Model, initial: Model | None, delta: ModelDelta, codec: str, count: int) -> Iterator[bytes]:
    """Yield a frame for each client; they differ in the size of the update, and in whose they are."""
    moment = CodingContext(
        run=str(_RUN),
        sender="",
        round=_ROUND,
        base=fingerprint_model(model),
        model=model,
        references=() if initial is None else (initial,),
    )
    rng = np.random.default_rng(0)
    distinct = []
    for scale in np.linspace(0.5, 1.5, min(count, _DISTINCT)):
        update = {name: (scale * values).astype(values.dtype) for name, values in delta.items()}
        distinct.append(parse_codec(codec).encode(update, rng=rng, context=moment).frame)
    for client in range(count):
        frame = read_frame(distinct[client % len(distinct)], FrameLimits())
        yield write_frame(replace(frame, binding=moment.sent_by(str(client + 1)).binding))
