"""A service that more clients call than it has cores, for more models than fit its memory."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.address import LOOPBACK, Address
from fedcomp.benchmarks.bars import Bar, at_most
from fedcomp.benchmarks.memory import read_memory
from fedcomp.benchmarks.serving.crowd import Crowd, ask_at_once
from fedcomp.benchmarks.serving.models import IMAGE_SHAPE, build_student, fill_store
from fedcomp.deployment.processes import free_ports, is_listening, running, wait_for
from fedcomp.store import LoadedModel, ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable

_MEGABYTE = 1 << 20
_SECONDS_TO_START = 60.0
_SECONDS_ALONE = 5.0
_PARTS = 4


@dataclass(frozen=True, slots=True)
class ServingResult:
    """What clients and the service's process met.

    Attributes:
        clients: At once.
        answers: To what was asked in the measured time.
        errors: Calls that had none.
        answers_a_second: Of all clients, until the last of them had its answer.
        p50_milliseconds: Of an answer.
        p99_milliseconds: Of an answer.
        in_process_p50_milliseconds: Of the same model on one image, called without a service, in the same run.
        warm_megabytes: Resident memory of the service after the warm-up.
        late_megabytes: At the end.
    """

    clients: int
    answers: int
    errors: int
    answers_a_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    in_process_p50_milliseconds: float
    warm_megabytes: float
    late_megabytes: float


def benchmark_serving(
    *, clients: int, models: int, memory_megabytes: int, duration: float, say: Callable[[str], None] = print
) -> list[ServingResult]:
    """Measure one client, then many, of a service that is a process of its own.

    Args:
        clients: Of the second measurement.
        models: In the store.
        memory_megabytes: The service's budget.
        duration: Seconds of it; the warm-up before takes as long again.
        say: Takes a line now and then.

    Raises:
        RunError: The service does not start.
    """
    with tempfile.TemporaryDirectory(prefix="fedcomp-serving-") as folder:
        names = fill_store(ModelStore(folder), models)
        address, log = Address(LOOPBACK, free_ports(1)[0]), Path(folder) / "log"
        program = "from fedcomp.cli import main; main()"
        options = ["--store", folder, "--listen", str(address), "--memory", str(memory_megabytes)]
        with (
            log.open("wb") as output,
            running([sys.executable, "-c", program, "serve", *options], environment=os.environ, log=output) as service,
        ):
            wait_for(lambda: is_listening(address.port), service, "service", _SECONDS_TO_START, log)

            def measure(count: int, seconds: float) -> ServingResult:
                ask_at_once(address, names, clients=count, duration=seconds, seed=0)
                warm, crowd = read_memory(service.pid).now, Crowd()
                for part in range(_PARTS):
                    found = ask_at_once(address, names, clients=count, duration=seconds / _PARTS, seed=1 + part)
                    crowd = Crowd(
                        crowd.seconds + found.seconds, crowd.errors + found.errors, crowd.duration + found.duration
                    )
                    megabytes = read_memory(service.pid).now / _MEGABYTE
                    say(f"{count} clients: {len(crowd.seconds)} answers, {megabytes:.1f} MB")
                p50, p99 = crowd.milliseconds
                return ServingResult(
                    clients=count,
                    answers=len(crowd.seconds),
                    errors=len(crowd.errors),
                    answers_a_second=len(crowd.seconds) / crowd.duration,
                    p50_milliseconds=p50,
                    p99_milliseconds=p99,
                    in_process_p50_milliseconds=_call_in_process(),
                    warm_megabytes=warm / _MEGABYTE,
                    late_megabytes=read_memory(service.pid).now / _MEGABYTE,
                )

            return [measure(1, _SECONDS_ALONE), measure(clients, duration)]


def check_serving(results: list[ServingResult]) -> list[Bar]:
    """Return what a service promises, against what was measured."""
    bars = [at_most(f"{r.clients} clients, errors", 0, [r.errors]) for r in results]
    growths = [(r, r.late_megabytes / r.warm_megabytes) for r in results[1:]]
    bars += [at_most(f"{r.clients} clients, memory late over warm", 1.05, [growth]) for r, growth in growths]
    return [bar for bar in bars if bar]


def _call_in_process(calls: int = 300) -> float:
    """Return the median milliseconds of a model's answer to one image."""
    model, image = LoadedModel(build_student(0)), np.zeros((1, *IMAGE_SHAPE), np.uint8)
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        model.logits(image)
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds)) * 1000
