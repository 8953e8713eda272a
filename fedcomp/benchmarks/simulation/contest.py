"""The benchmark's side of taking turns: start contestants, call rounds in turn, keep what they say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedcomp.benchmarks.simulation.tree import PeakMemory, processor_seconds
from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from fedcomp.benchmarks.simulation.work import Work

_SECONDS_TO_ANSWER = 600.0
_SECONDS_TO_END = 30.0
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a contestant did.

    Args:
        seconds: Each timed round's; the first round and that of the memory are none of them.
        processor: Processor seconds of its process tree in the same rounds.
        first_round: Seconds from its command to the end of its first round, without `loading`.
        loading: Seconds for which loading the data has delayed it.
        memory: Peak of its process tree over one more round, bytes; None if the system does not tell.
        examples: Images trained on in each of all rounds.
        loss: Mean of the last round.
    """

    seconds: tuple[float, ...]
    processor: tuple[float, ...]
    first_round: float
    loading: float
    memory: int | None
    examples: tuple[int, ...]
    loss: float

    @property
    def median(self) -> float:
        """Median seconds a round."""
        return statistics.median(self.seconds)

    @property
    def processor_median(self) -> float:
        """Median processor seconds a round."""
        return statistics.median(self.processor)

    def is_all_of(self, expected: int) -> bool:
        """Tell whether each round has done all of the work; clients that were lost have not."""
        return set(self.examples) == {expected}


class Contestant:
    """A process that waits for its turns; entered it has finished its first round.

    Args:
        name: One of `CONTESTANTS`.
        work: Its work.
        home: A folder of its own, for Flower's files and what it prints.
    """

    def __init__(self, name: str, work: Work, home: Path) -> None:
        self._name, self._log = name, home / "log.txt"
        ours, theirs = socket.socketpair()
        ours.settimeout(_SECONDS_TO_ANSWER)
        self._channel, self._lines = ours, ours.makefile("r", encoding="utf-8")
        self._facts: list[dict[str, float]] = []
        self._processor: list[float] = []
        self._memory: int | None = None
        command = [sys.executable, "-m", "fedcomp.benchmarks.simulation"]
        self._started = time.monotonic()
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, name, json.dumps(asdict(work)), str(theirs.fileno())],
                env=os.environ | _QUIET | {"FLWR_HOME": str(home)},
                pass_fds=[theirs.fileno()],
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that all it has started can be ended
            )

    def __enter__(self) -> Self:
        try:
            self.take_turn()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()

    def take_turn(self, *, with_memory: bool = False) -> None:
        """Have it do one round."""
        used = processor_seconds(self._process.pid)
        with contextlib.ExitStack() as stack:
            watched = stack.enter_context(PeakMemory(self._process.pid)) if with_memory else None
            try:
                self._channel.sendall(b"go\n")
                while "seconds" not in self._hear():
                    pass
            except OSError:
                raise self._failure() from None
        self._processor.append(processor_seconds(self._process.pid) - used)
        if watched:
            self._memory = watched.num_bytes

    def finish(self) -> Measured:
        """Let it end after its first round, some timed ones and that of the memory, and return what it did."""
        with contextlib.suppress(RunError):  # the end of what it says
            while True:
                self._hear()
        try:
            status = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            raise self._failure() from None
        if status:
            raise self._failure()
        timed = slice(1, -1)
        rounds = [facts for facts in self._facts if "seconds" in facts]
        loading = sum(facts.get("loading", 0.0) for facts in self._facts)
        return Measured(
            seconds=tuple(facts["seconds"] for facts in rounds[timed]),
            processor=tuple(self._processor[timed]),
            first_round=rounds[0]["at"] - self._started - loading,
            loading=loading,
            memory=self._memory,
            examples=tuple(int(facts["examples"]) for facts in rounds),
            loss=rounds[-1]["loss"],
        )

    def _hear(self) -> dict[str, float]:
        line = self._lines.readline()
        if not line:
            raise self._failure()
        self._facts.append(json.loads(line))
        return self._facts[-1]

    def _failure(self) -> RunError:
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        return RunError(f"the contestant {self._name} failed or took too long; what it printed last:\n{said}")

    def _kill(self) -> None:
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def hold_contest(entries: Mapping[str, tuple[str, Work]]) -> dict[str, Measured]:
    """Run some contestants in one contest: each alone up to its first round, then a round each in turn.

    The last round of each is that in which the memory is sampled, and is not timed.

    Args:
        entries: By what they shall be called, (one of `CONTESTANTS`, its work), of equally many rounds.
    """
    (rounds,) = {work.rounds for _, work in entries.values()}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedcomp-bench-")))
        running = dict(_start(entries, folder, stack))
        for _ in range(rounds - 2):
            for contestant in running.values():
                contestant.take_turn()
        for contestant in running.values():
            contestant.take_turn(with_memory=True)
        return {label: contestant.finish() for label, contestant in running.items()}


def _start(
    entries: Mapping[str, tuple[str, Work]], folder: Path, stack: contextlib.ExitStack
) -> Iterator[tuple[str, Contestant]]:
    for number, (label, (name, work)) in enumerate(entries.items()):
        home = folder / str(number)
        home.mkdir()
        yield label, stack.enter_context(Contestant(name, work, home))
