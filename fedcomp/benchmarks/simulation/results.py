"""The simulation benchmark: contests, what came out of them, and what of it was promised."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.benchmarks.bars import Bar, at_most
from fedcomp.benchmarks.simulation.contest import hold_contest
from fedcomp.benchmarks.simulation.contestants import CONTESTANTS, WORKERS
from fedcomp.benchmarks.simulation.work import Work, find_data
from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.benchmarks.simulation.contest import Measured

TRAINING = ("bare", "bare-two", "engine", "engine-stock", "ray-stock")
MODELS = ("perceptron", "cnn")
IDLE, CROWD = "no-op, 1 MB model", "no-op, crowd"
_BARE = "bare"
_ENGINES = ("engine", "engine, bfloat16")
_PEERS = ("pfl", "fedjax", "fluke")
_GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """One contestant at one work.

    Args:
        work: A model's name, or what clients do nothing with.
        contestant: Who did it.
        seconds_a_round: Median.
        over_bare: That over the bare loop's in one process, of the same contest; None without one.
        processor_over_bare: The same of processor time, of all processes: what other programs on the machine disturb
            least, and over the number of cores a limit to what more processes can win; None if the system does not
            tell.
        milliseconds_a_client: `seconds_a_round` over the clients of a round.
        first_round: Seconds from the command to the end of the first round, the loading of the data left out.
        memory_gigabytes: Peak of the process tree; see `PeakMemory`.
        clients_a_round: Clients.
        examples_a_round: Images that were trained on; of those who do nothing, their count.
        loss: Of training in the last round: the same work learns alike.
        is_complete: Whether every round did all of the work. One that lost clients has no time to compare.
    """

    work: str
    contestant: str
    seconds_a_round: float
    over_bare: float | None
    processor_over_bare: float | None
    milliseconds_a_client: float
    first_round: float
    memory_gigabytes: float | None
    clients_a_round: int
    examples_a_round: int
    loss: float | None
    is_complete: bool


def benchmark_training(model: str, rounds: int, contestants: Sequence[str] = TRAINING) -> list[SimulationResult]:
    """Let contestants train the same in one contest.

    Args:
        model: One of `MODELS`.
        rounds: Timed rounds of each.
        contestants: Some of `TRAINING`.
    """
    return train_in_contest(Work(model=model, rounds=rounds + 2, data=find_data()), contestants)


def train_in_contest(work: Work, contestants: Sequence[str]) -> list[SimulationResult]:
    """Let contestants do a work; of the CNN, fedcomp's own client also in bfloat16."""
    entries = {name: (name, work) for name in contestants}
    if work.model == "cnn" and "engine" in entries:
        entries["engine, bfloat16"] = ("engine", work.in_precision("bfloat16"))
    return _results(work.model, work, hold_contest(entries))


def benchmark_idle(rounds: int, contestants: Sequence[str], num_clients: int = 200) -> list[SimulationResult]:
    """Measure an engine's own cost: all clients each round, and they send back the model of 1 MB."""
    work = Work(model="none", rounds=rounds + 2, num_clients=num_clients, clients=num_clients, images=1)
    return _results(IDLE, work, hold_contest({name: (name, work) for name in contestants}))


def benchmark_crowd(rounds: int, num_clients: int = 1_000_000, clients: int = 1000) -> list[SimulationResult]:
    """Measure a crowd of registered clients, some of which do nothing each round."""
    work = Work(model="none", rounds=rounds + 2, num_clients=num_clients, clients=clients, images=1)
    return _results(CROWD, work, hold_contest({"engine-crowd": ("engine-crowd", work)}))


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """All results, and what has to be known to read them."""

    results: list[SimulationResult]
    notes: list[str]


def benchmark_simulation(model: str, rounds: int, only: Sequence[str] | None = None) -> SimulationReport:
    """Run all contests.

    Args:
        model: One of `MODELS`, ``all`` or ``none``.
        rounds: Timed rounds.
        only: Some of `CONTESTANTS`; None is all of them that can be had.

    Raises:
        UsageError: A name is unknown, or there is nothing to measure.
        RunError: A contestant failed.
    """
    models = {"all": MODELS, "none": ()}.get(model, (model,))
    if unknown := [name for name in models if name not in MODELS]:
        raise UsageError(f"model is {unknown[0]!r}, expected {', '.join(MODELS)}, all or none")
    if unknown := [name for name in only or [] if name not in CONTESTANTS]:
        raise UsageError(f"no contestant is called {unknown[0]!r}, expected {', '.join(CONTESTANTS)}")
    has_ray = importlib.util.find_spec("ray") is not None
    chosen = [name for name in only or CONTESTANTS if has_ray or not name.startswith("ray")]
    if not set(chosen) - set(TRAINING) and not (models and chosen):
        without = "" if has_ray else ", without Ray"
        raise UsageError(f"model {model} and {', '.join(only or [])}{without}: that measures nothing")
    results: list[SimulationResult] = []
    if training := [name for name in chosen if name in TRAINING]:
        for each in models:
            results += benchmark_training(each, rounds, training)
    if idle := [name for name in chosen if name.endswith("-idle")]:
        results += benchmark_idle(rounds, idle)
    if "engine-crowd" in chosen:
        results += benchmark_crowd(rounds)
    lost = [
        f"{r.contestant} ({r.work}) lost clients in some rounds: its figures do not count."
        for r in results
        if not r.is_complete
    ]
    return SimulationReport(results, [*lost, *_notes(has_ray)])


def _notes(has_ray: bool) -> Iterator[str]:
    yield (
        f"Engines and Ray have {WORKERS} workers, one thread each. Rounds are taken in turn; the first one, and the "
        "last one, in which the memory is sampled, are not in the median."
    )
    yield (
        "Memory is the peak of the sum of all processes' proportional set sizes: a page that n of them share counts "
        "once."
    )
    if find_data() == "random":
        yield "Fashion-MNIST is not here: the images are random ones of the same shape, the time is the same."
    if not has_ray:
        yield "Ray is not installed: pip install 'flwr[simulation]' to measure it."


def other_simulators() -> dict[str, str]:
    """Tell of other simulators whether they are here; none is measured: each wants work in its own terms."""
    return {
        name: "not measured: there is no adapter" if importlib.util.find_spec(name) else "absent" for name in _PEERS
    }


def check_simulation(results: Sequence[SimulationResult]) -> list[Bar]:
    """Return the bars that these results tell something about."""
    results = [r for r in results if r.is_complete]
    ours = [r for r in results if r.contestant in _ENGINES]
    cnn = [r for r in ours if r.work == "cnn"]
    idle = [r for r in results if r.contestant == "engine-idle"]
    crowd = [r for r in results if r.work == CROWD]
    bars = [
        at_most("perceptron, over the bare loop", 0.65, (r.over_bare for r in ours if r.work == "perceptron")),
        at_most("CNN in float32, over the bare loop", 0.55, (r.over_bare for r in cnn if r.contestant == "engine")),
        at_most("CNN in bfloat16, over the bare loop", 0.25, (r.over_bare for r in cnn if r.contestant != "engine")),
        at_most("first round finished, s, data loading out", 2.5, (r.first_round for r in ours)),
        at_most("CNN, memory of all processes, GB", 1.5, (r.memory_gigabytes for r in cnn)),
        at_most("own cost of a client and round, ms", 1, (r.milliseconds_a_client for r in idle)),
        at_most("a million clients, memory, GB", 2, (r.memory_gigabytes for r in crowd)),
        at_most("a million clients, a thousand a round, s", 2, (r.seconds_a_round for r in crowd)),
    ]
    return [bar for bar in bars if bar]


def _results(name: str, work: Work, measured: dict[str, Measured]) -> list[SimulationResult]:
    return list(_rows(name, work, measured))


def _share(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None


def _rows(name: str, work: Work, measured: dict[str, Measured]) -> Iterator[SimulationResult]:
    bare = measured.get(_BARE)
    for contestant, what in measured.items():
        yield SimulationResult(
            work=name,
            contestant=contestant,
            seconds_a_round=what.median,
            over_bare=what.median / bare.median if bare else None,
            processor_over_bare=_share(what.processor_median, bare.processor_median if bare else None),
            milliseconds_a_client=1000 * what.median / work.clients,
            first_round=what.first_round,
            memory_gigabytes=None if what.memory is None else what.memory / _GIGABYTE,
            clients_a_round=work.clients,
            examples_a_round=what.examples[-1],
            is_complete=what.is_all_of(work.examples_a_round),
            loss=what.loss or None,
        )
