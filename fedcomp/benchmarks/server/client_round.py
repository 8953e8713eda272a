"""What a round costs a client: time and memory, in a process that has nothing but what a client needs."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

from fedcomp.benchmarks.memory import read_memory, reset_peak
from fedcomp.benchmarks.server.workload import RoundsServer, make_model
from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from flwr.app import Message

    from fedcomp.types import Model

CLIENT_CODECS = ("none", "q8", "thin", "ultra")
"""Both ways each."""

_SCRIPT = Path(__file__).with_name("client_process.py")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_WARM_UP_ROUNDS = 3  # a whole model, the first difference, the first residual
_SECONDS_TO_ANSWER = 120.0
_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class ClientRoundResult:
    """A client's round with one codec both ways; medians over rounds in which it has a model and a residual.

    Args:
        codec: Of updates and of models.
        bytes_down: Of the message's arrays.
        bytes_up: Of the reply's.
        decode_milliseconds: From the message to the model that training starts from.
        encode_milliseconds: From the trained model to the reply.
        round_milliseconds: Both.
        idle_megabytes: Resident memory after all imports, before the first message.
        peak_megabytes: The most in a round, that the message and the trained model take included; None if the system
            does not tell.
        models: How many float32 models fit in the difference of the two.
    """

    codec: str
    bytes_down: int
    bytes_up: int
    decode_milliseconds: float
    encode_milliseconds: float
    round_milliseconds: float
    idle_megabytes: float | None
    peak_megabytes: float | None
    models: float | None


class Step(NamedTuple):
    """One round of a client, in seconds and bytes."""

    decode: float
    encode: float
    peak: int | None


class ClientProcess:
    """A client in a process of its own, one round after the other.

    Args:
        launcher: What starts the script at the end of the command line; default this Python.

    Attributes:
        idle: Resident memory before the first message; None if the system does not tell.
    """

    def __init__(self, launcher: Sequence[str] = (sys.executable, "-P")) -> None:
        self._end = stack = contextlib.ExitStack()
        self._log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - ruff does not see whose stack it is
        self._channel, theirs = Pipe()
        stack.enter_context(self._channel)
        with theirs:
            self._process = subprocess.Popen(
                [*launcher, str(_SCRIPT), str(theirs.fileno())],
                env=os.environ | _ONE_THREAD,
                pass_fds=[theirs.fileno()],
                stdout=subprocess.DEVNULL,
                stderr=self._log,
            )
        stack.callback(self._kill)
        self._hear()
        self.idle = self._read_memory("now")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.close()

    def ask(self, message: Message) -> tuple[Message, Step]:
        """Have it do a round; raises `RunError` with what it printed if it fails."""
        self._say(message_to_proto(message).SerializeToString())
        self._hear()
        with contextlib.suppress(OSError):
            reset_peak(self._process.pid)
        self._say(b"go")
        step = Step(**json.loads(self._hear()), peak=self._read_memory("peak"))
        self._say(b"go")
        return message_from_proto(MessageProto.FromString(self._hear())), step

    def _read_memory(self, which: str) -> int | None:
        try:
            return int(getattr(read_memory(self._process.pid), which))
        except (OSError, KeyError):
            return None

    def _say(self, what: bytes) -> None:
        try:
            self._channel.send_bytes(what)
        except OSError:
            raise self._failure() from None

    def _hear(self) -> bytes:
        try:
            if self._channel.poll(_SECONDS_TO_ANSWER):
                return self._channel.recv_bytes()
        except (EOFError, OSError):
            pass
        raise self._failure()

    def _failure(self) -> RunError:
        self._kill()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()[-2000:]
        self._end.close()
        return RunError(f"the client's process failed or took too long; what it printed last:\n{said}")

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


def benchmark_client_rounds(
    codecs: Sequence[str] = CLIENT_CODECS, *, rounds: int = 9, model: Model | None = None
) -> list[ClientRoundResult]:
    """Measure a client's rounds with some codecs, each in a process of its own.

    Args:
        codecs: Each for updates and models; ``none`` sends plain arrays.
        rounds: That are measured.
        model: Default one of 1,663,370 parameters.
    """
    return [_benchmark_codec(codec, rounds, model or make_model()) for codec in codecs]


def _benchmark_codec(codec: str, rounds: int, model: Model) -> ClientRoundResult:
    server = RoundsServer(model, codec=codec, downlink=codec)
    with ClientProcess() as client:
        steps = list(_take_rounds(server, client, _WARM_UP_ROUNDS + rounds))[_WARM_UP_ROUNDS:]
        idle = client.idle
    peak = max((step.peak for step in steps if step.peak is not None), default=None)
    model_bytes = sum(values.nbytes for values in model.values())
    return ClientRoundResult(
        codec=codec,
        bytes_down=server.traffic.downlink_bytes,
        bytes_up=server.traffic.uplink_bytes,
        decode_milliseconds=1000 * statistics.median(step.decode for step in steps),
        encode_milliseconds=1000 * statistics.median(step.encode for step in steps),
        round_milliseconds=1000 * statistics.median(step.decode + step.encode for step in steps),
        idle_megabytes=None if idle is None else idle / _MEGABYTE,
        peak_megabytes=None if peak is None else peak / _MEGABYTE,
        models=None if idle is None or peak is None else (peak - idle) / model_bytes,
    )


def _take_rounds(server: RoundsServer, client: ClientProcess, rounds: int) -> Iterator[Step]:
    for server_round in range(1, rounds + 1):
        (message,) = server.order(server_round)
        reply, step = client.ask(message)
        server.arrays = server.fold(server_round, [reply])
        yield step
