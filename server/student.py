"""The server's last step: teach a student, store it, export it, and measure what was stored."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fedcomp.distillation import GlobalTeacher, features
from fedcomp.errors import UsageError
from fedcomp.files import write_json
from fedcomp.student import (
    CARD_FILE,
    RUN_FACTS,
    Lesson,
    StudentSettings,
    export_student,
    layer_bits,
    load_student,
    save_student,
    train_student,
)
from fedcomp.training import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import nn

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset
    from fedcomp.distillation import Teacher
    from fedcomp.models import PartialModel
    from server.teaching import Teaching


def check_student(config: RunConfig, build: Callable[[str], nn.Module]) -> None:
    """Refuse a student that could not be made, before the first round instead of after the last.

    Raises:
        UsageError: There is no such architecture.
        ConfigError: A pattern of ``student-bits`` fits none of its layers.
    """
    if config.teacher != "none":
        layer_bits(build(config.student_model), config.layer_bits)


def make_student(
    config: RunConfig,
    *,
    build: Callable[[str], nn.Module],
    model: PartialModel,
    teaching: Teaching,
    validation: ImageDataset,
    test: ImageDataset,
    folder: Path,
    summary: Mapping[str, Any],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Distill into the configured student and save it; an ensemble of nobody gives way to the global model.

    Args:
        config: The run.
        build: Returns a new model of an architecture, by name.
        model: The final global model.
        teaching: Of the run's last clients.
        validation: For choices.
        test: For figures.
        folder: The student's.
        summary: Of the run, for the model card.
        note: Told what could not be done.

    Returns:
        ``student_accuracy`` on `test`, of the weights as read back from the file, and ``student_bytes``; if exported,
        ``student_onnx_bytes``, ``student_int8_accuracy``, ``student_int8_bytes`` and ``student_p50_ms``. Nothing where
        no student is asked for.
    """
    if config.teacher == "none":
        return {}
    taught_by, teacher, proxy = choose_teacher(config, model, teaching)
    hints = features(model.module, proxy.images) if config.hint_weight else None
    lesson = Lesson(taught_by, teacher.logits(), proxy, validation, test, hints)
    settings = StudentSettings.of(config)
    student = build(config.student_model)
    report = train_student(student, lesson, settings)
    card = {
        "model": config.student_model,
        "dataset": config.dataset,
        "image_shape": list(proxy.image_shape),
        "num_classes": proxy.num_classes,
        "teacher": lesson.taught_by,
        "validation_accuracy": report.best_accuracy,
        "best_epoch": report.best_epoch,
    }
    num_bytes = save_student(folder, student)
    write_json(folder / CARD_FILE, card)
    stored = copy.deepcopy(student)
    load_student(folder, stored)
    measured = {"student_accuracy": evaluate(stored, test).accuracy, "student_bytes": num_bytes}
    if not config.student_export:
        return measured
    facts, command = {key: summary[key] for key in RUN_FACTS if key in summary}, "the run's last step (student-export)"
    try:
        exported = export_student(student, model.module, lesson, settings, folder, run=facts, command=command)
    except UsageError as error:  # the training is done and stored: what is not installed must not take it away
        note(f"student not exported: {error}")
        return measured
    measured["student_onnx_bytes"] = exported.variants["float32"].num_bytes
    if int8 := exported.variants.get("int8"):
        measured |= {"student_int8_accuracy": int8.accuracy, "student_int8_bytes": int8.num_bytes}
    return measured | {"student_p50_ms": exported.best.latency.p50_ms}


def choose_teacher(config: RunConfig, model: PartialModel, teaching: Teaching) -> tuple[str, Teacher, ImageDataset]:
    """Return who teaches, by name and as such, and on which images: the clients of the last round if they shall."""
    if config.teacher == "ensemble" and (heard := teaching.heard(config.num_server_rounds)):
        return ("ensemble", *heard)
    proxy = teaching.make_proxy(model.shared_weights())
    return "global", GlobalTeacher(model.module, proxy), proxy
