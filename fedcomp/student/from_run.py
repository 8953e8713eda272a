"""A student from a finished run's folder: the run's own models teach, on the run's own proxy images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.config import RunConfig
from fedcomp.errors import ConfigError
from fedcomp.files import asked_to_write
from fedcomp.student.finished_run import FinishedRun
from fedcomp.student.layer_bits import layer_bits
from fedcomp.student.make import StudentSettings, export_student, train_student

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fedcomp.student.card import StudentCard

RUN_FACTS = ("name", "seed", "rounds", "codec", "uplink_bytes", "downlink_bytes", "dense_uplink_bytes")
"""Of a run's summary, what a model card repeats."""

STUDENT_KEYS = (
    "teacher",
    "teacher-average",
    "student-model",
    "student-prune",
    "student-quantize",
    "student-bits",
    "distill-epochs",
    "distill-batch-size",
    "distill-learning-rate",
    "distill-optimizer",
    "distill-patience",
    "temperature",
    "final-temperature",
    "hard-label-weight",
    "hint-weight",
    "proxy-size",
    "proxy-dataset",
    "proxy-dir",
    "proxy-views",
    "augment",
    "data-dir",
)
"""What of a configuration still decides something after the run.

Not ``seed``: another one would cut the images apart anew, and validate on what clients have learned.
"""


def student_from_run(
    run: Path,
    out: Path,
    *,
    changes: Mapping[str, Any],
    command: str,
    note: Callable[[str], None] = lambda _: None,
) -> StudentCard:
    """Make a student of `run`: of its final global model, or of its last clients where ``teacher`` is ``ensemble``.

    Args:
        run: A finished run's folder.
        out: Where the student's files go; overwritten file by file.
        changes: Keys of the run's configuration that shall be others here, kebab-case.
        command: For the card.
        note: Told what begins.

    Raises:
        ConfigError: A change is wrong, or of a key that is none of `STUDENT_KEYS`.
        UsageError: The folder holds no finished run, or no clients for an ensemble; `out` can not be made.
        DataError: A model is damaged, or the data set is not what it was.
        RunError: The teacher is an ensemble of which nobody is better than chance.
    """
    _check_counts(changes)
    finished = FinishedRun.read(run, {"teacher": "global", **changes})
    config = finished.config
    settings, student, lesson = StudentSettings.of(config), finished.build(config.student_model), finished.lesson()
    layer_bits(student, settings.bits)  # what fits no layer is refused before anything is learned
    with asked_to_write(f"the student's folder {out}"):
        out.mkdir(parents=True, exist_ok=True)
    num_images = len(lesson.proxy) // config.proxy_views
    note(f"distill {config.student_model} on {num_images} images, {config.distill_epochs} epochs")
    report = train_student(student, lesson, settings)
    note(f"{report.best_accuracy:.1%} on the validation set")
    facts = {key: finished.summary[key] for key in RUN_FACTS if key in finished.summary}
    return export_student(student, finished.model, lesson, settings, out, run=facts, command=command, note=note)


def _check_counts(changes: Mapping[str, Any]) -> None:
    # What is no key at all is left to the configuration, which knows what may have been meant.
    if idle := sorted((changes.keys() & set(RunConfig.keys())) - set(STUDENT_KEYS)):
        raise ConfigError(
            f"{', '.join(idle)}: changes nothing about the student of a finished run; what does: "
            f"{', '.join(STUDENT_KEYS)}"
        )
