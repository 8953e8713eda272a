"""One student made and measured, by the functions that make the product's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fedcomp.config import RunConfig
from fedcomp.student import (
    OnnxModel,
    StudentSettings,
    export_onnx,
    fold_batch_norm,
    measure_latency,
    quantize_after_training,
    train_student,
)
from fedcomp.training import evaluate_logits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.student import FinishedRun, Lesson

_LATENCY_CALLS = 200


class Measured(NamedTuple):
    """A student's objectives; see `Candidate`."""

    accuracy: float
    num_bytes: int
    p50_ms: float | None


def measure_student(
    run: FinishedRun, lesson: Lesson, changes: Mapping[str, Any], *, with_latency: bool = False
) -> Measured:
    """Distill, prune, export and perhaps quantize a student, and measure its file on the validation set.

    Args:
        run: Whose global model teaches.
        lesson: Of the run: the teacher answers once for all students.
        changes: Keys of the run's configuration that shall be others here, kebab-case.
        with_latency: Time it, too.

    Raises:
        UsageError: A change is wrong, or the extra is not installed.
    """
    settings = StudentSettings.of(RunConfig.from_mapping({**run.config.to_mapping(), **changes}))
    student = run.build(settings.model)
    train_student(student, lesson, settings)
    content = export_onnx(fold_batch_norm(student), lesson.proxy.image_shape, {"model": settings.model})
    if settings.quantize != "none":
        content = quantize_after_training(content, lesson.proxy.images)
    model, validation = OnnxModel(content), lesson.validation
    logits = torch.from_numpy(model.logits(validation.images))
    timed = measure_latency({"": model}, validation.images[0], repeats=_LATENCY_CALLS) if with_latency else {}
    return Measured(
        accuracy=evaluate_logits(logits, validation).accuracy,
        num_bytes=len(content),
        p50_ms=timed[""].p50_ms if timed else None,
    )
