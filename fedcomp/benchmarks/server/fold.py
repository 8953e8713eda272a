"""What a round costs the server: updates that one core checks, decodes and folds in a second, and its memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict

from fedcomp.benchmarks.memory import peak_memory
from fedcomp.benchmarks.server.client_process import make_client
from fedcomp.benchmarks.server.workload import RUN_ID, SHAPES, RoundsServer, make_model
from fedcomp.codecs import CodingContext
from fedcomp.errors import RunError
from fedcomp.flower.messages.order import ORDER_KEY
from fedcomp.flower.messages.records import frame_from_record, frame_to_record, only_array_record
from fedcomp.wire import FrameLimits, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flwr.clientapp import ClientApp

    from fedcomp.types import Model
    from fedcomp.wire import Frame

_ROUNDS = 3
_MEGABYTE = 1e6
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Large pieces of memory go back when they are freed (man 3 mallopt): a process is as large as what it uses, and not as
# what glibc has kept. That costs time, so a process that is weighed is not timed.
_EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}


@dataclass(frozen=True, slots=True)
class FoldWork:
    """What a server has to fold.

    Args:
        codec: Of the updates; not ``none``.
        references: Whether updates are coded with the run's initial model, which clients can build.
        updates: In a round.
        distinct: Different ones among them; the others are the same values from other senders.
    """

    codec: str
    references: bool
    updates: int
    distinct: int = 8


@dataclass(frozen=True, slots=True)
class FoldResult:
    """How a server folded a round's updates.

    Args:
        codec: Of the updates.
        references: Whether they were coded with an earlier model.
        updates: In a round.
        bytes_an_update: Mean length of their frames.
        updates_a_second: Of the processor's time, all threads': what one core does. Median of the rounds.
        grown_megabytes: By how much the process grew at most in a round; None if the system does not tell.
    """

    codec: str
    references: bool
    updates: int
    bytes_an_update: float
    updates_a_second: float
    grown_megabytes: float | None


def benchmark_folds(codecs: Sequence[str] = ("thin",), *, sizes: Sequence[int] = (10, 1000)) -> list[FoldResult]:
    """Measure how a server folds rounds of 1,663,370 parameters, in processes of their own.

    Args:
        codecs: Of the updates; each with and without references.
        sizes: Updates a round.
    """
    works = [FoldWork(codec, has, size) for codec in codecs for has in (False, True) for size in sizes]
    return [_benchmark_work(work) for work in works]


class Folding:
    """A server that folds rounds of the same updates, one after the other.

    Args:
        work: What there is to fold.
        shapes: Of the model.
    """

    def __init__(self, work: FoldWork, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> None:
        initial = make_model(shapes)
        # The global model is another one than what clients hold beside it, or there would be nothing to refer to.
        self._server = RoundsServer(
            {name: values * np.float32(1.01) for name, values in initial.items()},
            num_clients=work.updates,
            codec=work.codec,
            initial=initial if work.references else None,
        )
        self._round = 1
        self._frames = _make_frames(self._server.order(self._round)[: work.distinct], initial)

    def time_round(self) -> tuple[float, int]:
        """Fold a round; return its processor seconds, without those of making its replies, and its bytes."""
        replies = self._replies()
        started = time.process_time()
        self._server.fold(self._round, replies)
        seconds = time.process_time() - started - replies.seconds
        return seconds, self._server.traffic.uplink_bytes

    def weigh_round(self) -> int | None:
        """Fold a round; return by how many bytes this process grew, None if the system does not tell."""
        replies = self._replies()
        return peak_memory(lambda: self._server.fold(self._round, replies), repeats=1)

    def _replies(self) -> _Replies:
        self._round += 1
        return _Replies(self._server.order(self._round), self._frames, self._round)


class _Replies:
    """The replies of a round, each made when it is asked for: the benchmark holds no round of them.

    Attributes:
        seconds: Of the processor, that making them has taken.
    """

    def __init__(self, messages: Sequence[Message], frames: Sequence[Frame], server_round: int) -> None:
        self._messages, self._frames, self._round = messages, frames, server_round
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Message]:
        for message, frame in zip(self._messages, cycle(self._frames), strict=False):
            started = time.process_time()
            reply = self._reply(message, frame)
            self.seconds += time.process_time() - started
            yield reply

    def _reply(self, message: Message, frame: Frame) -> Message:
        """Return the frame as this client would have made it in this round."""
        lineage = str(message.content.config_records[ORDER_KEY]["lineage"])
        sender = CodingContext(run=lineage, sender=str(message.metadata.dst_node_id), round=self._round, base=1)
        binding = replace(frame.binding, round=self._round, origin=sender.binding.origin)
        record = frame_to_record(write_frame(replace(frame, binding=binding)))
        metrics = MetricRecord({"num-examples": 600, "train-loss": 0.5})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)


def measure(work: FoldWork, what: str) -> list[float | None]:
    """Do some rounds of a work in this process.

    Args:
        work: The work.
        what: ``seconds`` or ``memory``.

    Returns:
        Of ``seconds``: their median and a round's bytes. Of ``memory``: the largest growth, in bytes.
    """
    folding = Folding(work)
    if what == "memory":
        return [max((grown for _ in range(_ROUNDS) if (grown := folding.weigh_round()) is not None), default=None)]
    seconds, num_bytes = zip(*(folding.time_round() for _ in range(_ROUNDS)), strict=True)
    return [statistics.median(seconds), num_bytes[-1]]


def _benchmark_work(work: FoldWork) -> FoldResult:
    seconds, num_bytes = _measure_apart(work, "seconds", {})
    (grown,) = _measure_apart(work, "memory", _EXACT_MEMORY)
    return FoldResult(
        codec=work.codec,
        references=work.references,
        updates=work.updates,
        bytes_an_update=num_bytes / work.updates,
        updates_a_second=work.updates / seconds,
        grown_megabytes=None if grown is None else grown / _MEGABYTE,
    )


def _measure_apart(work: FoldWork, what: str, environment: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp.benchmarks.server", json.dumps(asdict(work)), what],
        env=os.environ | _ONE_THREAD | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RunError(f"folding {work} failed; what it printed last:\n{done.stderr.strip()[-2000:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _make_frames(messages: Sequence[Message], initial: Model) -> list[Frame]:
    """Let clients make updates, as they are ordered."""
    client = make_client(initial=lambda message, context: initial)
    return [_make_frame(client, message) for message in messages]


def _make_frame(client: ClientApp, message: Message) -> Frame:
    node = message.metadata.dst_node_id
    context = Context(run_id=RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})
    _, record = only_array_record(client(message, context).content)
    return read_frame(frame_from_record(record), FrameLimits())
