"""The search itself: Optuna asks, students answer, and what they answered is on disk before the next one."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fedcomp.errors import UsageError
from fedcomp.models import get_weights
from fedcomp.seeding import derive_seed
from fedcomp.tuning.bit_path import bit_path, points_along
from fedcomp.tuning.candidate import Candidate
from fedcomp.tuning.measure import Workbench
from fedcomp.tuning.space import SearchSpace
from fedcomp.types import fingerprint_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna import Study

    from fedcomp.student import FinishedRun

Direction: TypeAlias = Literal["maximize", "minimize"]

_NAME, _ASKED, _SEEDED = "student", "asked", "seeded"
_BIT_POINTS = 4
"""Students with fewer bits that are tried first."""
_LATENCY: dict[bool, list[Direction]] = {True: ["minimize"], False: []}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSettings:
    """How to search.

    Args:
        trials: Students in all, those of an earlier process included; 1 or more.
        timeout: Seconds after which no further student is begun; None for no limit.
        epochs: Of distillation for each student, 1 or more; None for as many as the run's.
        space: What may change.
        with_latency: Whether the median time of one image is an objective, too. It does not repeat exactly.
    """

    trials: int = 20
    timeout: float | None = None
    epochs: int | None = None
    space: SearchSpace = field(default_factory=SearchSpace)
    with_latency: bool = False


def tune_student(
    run: FinishedRun, settings: TuneSettings, storage: str, note: Callable[[str], None] = lambda _: None
) -> list[Candidate]:
    """Try students of a run, and return all that were tried, now and before.

    The sampler is Optuna's multi-objective TPE. It begins with what everybody would try, and with bits of single layers
    as the sensitivity table of the first student recommends them (`bit_path`). A student whose making fails counts as
    tried, and its error is raised.

    Args:
        run: Whose global model teaches.
        settings: How to search.
        storage: SQLAlchemy URL of the study, such as ``sqlite:///tune.db``; one that is there already is gone on with,
            by one process at a time. A student that a killed one was at is made again.
        note: Told of each student.

    Returns:
        In their order; empty if time was over before the first.

    Raises:
        UsageError: The storage can not be opened or holds another search, or an extra is not installed.

    References:
        Ozaki et al., Multiobjective Tree-Structured Parzen Estimator, JAIR 2022.
    """
    epochs = settings.epochs or run.config.distill_epochs
    asked = {
        "teacher": fingerprint_model(get_weights(run.model)),
        "architecture": run.config.student_model,
        "epochs": epochs,
        "seed": run.config.seed,
        "with_latency": settings.with_latency,
        "space": asdict(settings.space) | {"bits": list(settings.space.bits)},  # as JSON has it
    }
    layers = _searched_layers(run, settings.space)
    with _study(storage, asked, settings) as study:
        bench, started = Workbench(run, run.lesson()), time.monotonic()
        while len(done := _finished(study, run)) < settings.trials:
            if settings.timeout is not None and time.monotonic() - started >= settings.timeout:
                note(f"{settings.timeout:g} seconds are over after {len(done)} students")
                break
            _seed(study, bench, settings.space, layers, epochs)
            trial = study.ask(settings.space.distributions(layers))
            changes = settings.space.changes(run.config, trial.params)
            try:
                found = bench.measure(changes | {"distill-epochs": epochs}, with_latency=settings.with_latency)
            except Exception:
                study.tell(trial, state=_failed())
                raise
            study.tell(trial, [value for value in found if value is not None])
            note(f"{trial.number}: {_shown(changes)}, {found.accuracy:.1%}, {found.num_bytes:,} bytes")
    return done


def _searched_layers(run: FinishedRun, space: SearchSpace) -> list[str]:
    """Return the layers whose bits are searched; an architecture without a width is refused before a study is begun."""
    students = [run.build(space.changes(run.config, point)["student-model"]) for point in space.starting_points(())]
    return space.layers(students[-1])


def _seed(study: Study, bench: Workbench, space: SearchSpace, layers: Sequence[str], epochs: int) -> None:
    """Put what is tried first into a study's queue, once."""
    if _SEEDED in study.user_attrs:
        return
    paths = []
    if len(space.bits) > 1 and layers:
        first = space.changes(bench.run.config, space.starting_points(layers)[0])
        table = bench.sensitivity(first | {"distill-epochs": epochs}, space.bits)
        path = bit_path([row for row in table if row.layer in layers])
        paths = [point.bits for point in points_along(path, _BIT_POINTS)]
    for point in space.starting_points(layers, paths):
        study.enqueue_trial(point, skip_if_exists=True)
    study.set_user_attr(_SEEDED, True)


def _shown(changes: Mapping[str, Any]) -> str:
    return f"{changes['student-model']}{' ' if changes['student-bits'] else ''}{changes['student-bits']}"


@contextlib.contextmanager
def _study(storage: str, asked: dict[str, Any], settings: TuneSettings) -> Iterator[Study]:
    """Open a study or begin it, and close its database in the end."""
    try:
        import optuna
    except ImportError:
        raise UsageError("tuning needs optuna: pip install 'fedcomp[tune]'") from None
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        database = optuna.storages.RDBStorage(storage)
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        raise UsageError(f"storage {storage!r} can not be opened: {str(error).splitlines()[0]}") from None
    try:
        directions: list[Direction] = ["maximize", "minimize", *_LATENCY[settings.with_latency]]
        study = optuna.create_study(storage=database, study_name=_NAME, directions=directions, load_if_exists=True)
        before = study.user_attrs.get(_ASKED, asked)
        if other := [
            f"{key} was {before.get(key)!r}, is {new!r}" for key, new in asked.items() if before.get(key) != new
        ]:
            raise UsageError(f"{storage} holds another search, choose another --storage: {'; '.join(other)}")
        study.set_user_attr(_ASKED, asked)
        _ask_again(study)
        # Else a search that goes on would draw again what it drew at first.
        seed = derive_seed(asked["seed"], "tune", len(study.trials)) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, settings.trials))
        yield study
    finally:
        database.remove_session()
        database.engine.dispose()


def _ask_again(study: Study) -> None:
    """Put students back into the queue that a process was making when it was killed: else they are never made."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.params:
            study.enqueue_trial(trial.params)
        study.tell(trial.number, state=_failed())


def _finished(study: Study, run: FinishedRun) -> list[Candidate]:
    return [
        Candidate(
            number=trial.number,
            changes=SearchSpace.changes(run.config, trial.params),
            accuracy=trial.values[0],
            num_bytes=int(trial.values[1]),
            p50_ms=trial.values[2] if len(trial.values) > 2 else None,
        )
        for trial in study.trials
        if trial.state.name == "COMPLETE"
    ]


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL
