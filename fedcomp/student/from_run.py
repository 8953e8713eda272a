"""A student from a finished run's folder: the run's own model teaches, on the run's own proxy images."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.distillation import GlobalTeacher, features, proxy_images
from fedcomp.errors import DataError, UsageError
from fedcomp.files import read_tensors
from fedcomp.models import build_model, set_weights
from fedcomp.student.make import Lesson, StudentSettings, export_student, train_student

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fedcomp.student.card import StudentCard

RUN_FACTS = ("name", "seed", "rounds", "codec", "uplink_bytes", "downlink_bytes", "dense_uplink_bytes")
"""Of a run's summary, what a model card repeats."""


def student_from_run(
    run: Path,
    out: Path,
    *,
    changes: Mapping[str, Any],
    command: str,
    note: Callable[[str], None] = lambda _: None,
) -> StudentCard:
    """Make a student of the final global model of `run`.

    Args:
        run: A finished run's folder.
        out: Where the student's files go; overwritten file by file.
        changes: Keys of the run's configuration that shall be others here, kebab-case.
        command: For the card.
        note: Told what begins.

    Raises:
        UsageError: The folder holds no finished run, or a change is wrong.
        DataError: The model is damaged, or the data set is not what it was.
    """
    summary = _read_summary(run)
    begun = RunConfig.from_toml(run / "config.toml").to_mapping()
    config = RunConfig.from_mapping({**begun, "teacher": "global", **changes})
    settings = StudentSettings.of(config)
    train, test = load_dataset(config.dataset, config.data_dir)
    held_out = hold_out(train, **config.held_out_sizes, seed=config.seed)
    build = partial(build_model, image_shape=train.image_shape, num_classes=train.num_classes, seed=config.seed)
    student, teacher = build(config.student_model), build(config.model)
    set_weights(teacher, read_tensors(run / "model.safetensors"))
    proxy = proxy_images(config, held_out.proxy, teacher)
    hints = features(teacher, proxy.images) if config.hint_weight else None
    lesson = Lesson("global", GlobalTeacher(teacher, proxy).logits(), proxy, held_out.validation, test, hints)
    note(f"distill {config.student_model} on {len(proxy)} images, {config.distill_epochs} epochs")
    report = train_student(student, lesson, settings)
    note(f"{report.best_accuracy:.1%} on the validation set")
    facts = {key: summary[key] for key in RUN_FACTS if key in summary}
    return export_student(student, teacher, lesson, settings, out, run=facts, command=command, note=note)


def _read_summary(run: Path) -> dict[str, Any]:
    missing = [name for name in ("config.toml", "model.safetensors", "summary.json") if not (run / name).is_file()]
    if missing:
        raise UsageError(f"{run} is not the folder of a finished run: it has no {', '.join(missing)}")
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{run / 'summary.json'}: {error}") from None
    if not isinstance(summary, dict):
        raise DataError(f"{run / 'summary.json'} is a {type(summary).__name__}, expected an object")
    return summary
