"""Students made and measured, by the functions that make the product's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fedcomp.config import RunConfig
from fedcomp.explaining import measure_sensitivity
from fedcomp.student import (
    OnnxModel,
    StudentSettings,
    export_onnx,
    fold_batch_norm,
    layer_bits,
    measure_latency,
    quantize_after_training,
    train_student,
)
from fedcomp.training import evaluate_logits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from fedcomp.explaining import LayerDamage
    from fedcomp.student import FinishedRun, Lesson

_LATENCY_CALLS = 200


class Measured(NamedTuple):
    """A student's objectives; see `Candidate`."""

    accuracy: float
    num_bytes: int
    p50_ms: float | None


class _Trained(NamedTuple):
    settings: StudentSettings
    folded: nn.Module


@dataclass(slots=True)
class Workbench:
    """Makes students of a run. The last one is kept: the same one in other bits is not trained again.

    Args:
        run: Whose global model teaches.
        lesson: Of the run: the teacher answers once for all students.
    """

    run: FinishedRun
    lesson: Lesson
    _last: _Trained | None = field(default=None, init=False)

    def measure(self, changes: Mapping[str, Any], *, with_latency: bool = False) -> Measured:
        """Distill, prune, export and perhaps quantize a student, and measure its file on the validation set.

        Args:
            changes: Keys of the run's configuration that shall be others here, kebab-case.
            with_latency: Time it, too.

        Raises:
            UsageError: A change is wrong, or the extra is not installed.
        """
        settings = self._settings(changes)
        folded, images = self._train(settings), self.lesson.proxy.images
        content = export_onnx(folded, self.lesson.proxy.image_shape, {"model": settings.model})
        if settings.quantize != "none":
            content = quantize_after_training(content, images, layer_bits(folded, settings.bits))
        model, validation = OnnxModel(content), self.lesson.validation
        logits = torch.from_numpy(model.logits(validation.images))
        timed = measure_latency({"": model}, validation.images[0], repeats=_LATENCY_CALLS) if with_latency else {}
        return Measured(
            accuracy=evaluate_logits(logits, validation).accuracy,
            num_bytes=len(content),
            p50_ms=timed[""].p50_ms if timed else None,
        )

    def sensitivity(self, changes: Mapping[str, Any], bits: Sequence[int]) -> list[LayerDamage]:
        """Make a student, and quantize its layers one at a time; see `measure_sensitivity`.

        Raises:
            UsageError: As in `measure`.
        """
        folded = self._train(self._settings(changes))
        return measure_sensitivity(folded, self.lesson.validation, bits=bits, prune_ratios=())

    def _settings(self, changes: Mapping[str, Any]) -> StudentSettings:
        return StudentSettings.of(RunConfig.from_mapping({**self.run.config.to_mapping(), **changes}))

    def _train(self, settings: StudentSettings) -> nn.Module:
        """Return the trained student with BatchNorm folded in."""
        of_training = replace(settings, quantize="none", bits={})
        if self._last is None or self._last.settings != of_training:
            student = self.run.build(settings.model)
            train_student(student, self.lesson, settings)
            self._last = _Trained(of_training, fold_batch_norm(student))
        return self._last.folded
