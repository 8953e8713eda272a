"""The server's last step: teach a student, store it, and measure what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.distillation import DistillSettings, GlobalTeacher, distill
from fedcomp.student import load_student, save_student
from fedcomp.training import evaluate, memory_format

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset
    from fedcomp.distillation import EnsembleTeacher, Teacher


def make_student(
    config: RunConfig,
    *,
    build: Callable[[str], nn.Module],
    global_model: nn.Module,
    ensemble: EnsembleTeacher | None,
    proxy: ImageDataset,
    validation: ImageDataset,
    test: ImageDataset,
    folder: Path,
) -> dict[str, Any]:
    """Distill into the configured student and save it; an ensemble of nobody gives way to the global model.

    Returns:
        ``student_accuracy`` on `test`, of the weights as read back from the file, and ``student_bytes``.
    """
    use_ensemble = ensemble is not None and ensemble.num_teachers > 0
    teacher: Teacher = ensemble if use_ensemble and ensemble else GlobalTeacher(global_model, proxy)
    settings = DistillSettings(
        epochs=config.distill_epochs,
        batch_size=config.distill_batch_size,
        learning_rate=config.distill_learning_rate,
        temperature=config.temperature,
    )
    student = build(config.student_model)
    with memory_format(student, "channels-last"):
        report = distill(student, teacher.logits(), proxy, validation, settings, seed=config.seed)
    card = {
        "model": config.student_model,
        "dataset": config.dataset,
        "image_shape": list(proxy.image_shape),
        "num_classes": proxy.num_classes,
        "teacher": "ensemble" if use_ensemble else "global",
        "validation_accuracy": report.best_accuracy,
        "best_epoch": report.best_epoch,
    }
    num_bytes = save_student(folder, student, card)
    stored = build(config.student_model)
    load_student(folder, stored)
    return {"student_accuracy": evaluate(stored, test).accuracy, "student_bytes": num_bytes}
