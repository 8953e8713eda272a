"""All that is measured of a run's models, in one record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedcomp.codecs import NO_CODEC, parse_codec
from fedcomp.errors import UsageError
from fedcomp.explaining.calibration import expected_calibration_error, reliability
from fedcomp.explaining.saliency import first_of_each_class, saliency_drift
from fedcomp.explaining.sensitivity import measure_sensitivity
from fedcomp.explaining.tensor_bytes import bytes_by_tensor
from fedcomp.files import to_json
from fedcomp.seeding import derive_rng
from fedcomp.student import FinishedRun, open_student
from fedcomp.training import evaluate_logits, predict_logits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from fedcomp.data import ImageDataset
    from fedcomp.explaining.calibration import ReliabilityBin
    from fedcomp.explaining.saliency import SaliencyDrift
    from fedcomp.explaining.sensitivity import LayerDamage
    from fedcomp.explaining.tensor_bytes import TensorBytes

_PLAIN = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainSettings:
    """What to measure.

    Args:
        bits: Widths that each layer is quantized to, 2 to 16 each.
        prune_ratios: Shares of each layer that are pruned, 0 to 1 each.
        num_images: Of the validation set, from its beginning; 0 is all.
        maps_per_class: Images of each class whose attribution maps are compared.
    """

    bits: tuple[int, ...] = (8, 6, 4, 3, 2)
    prune_ratios: tuple[float, ...] = (0.5, 0.8, 0.9)
    num_images: int = 0
    maps_per_class: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model on the validation images.

    Args:
        accuracy: 0 to 1.
        per_class_accuracy: By label; NaN for a class without images.
        calibration_error: Expected, of 15 bins, 0 to 1.
        reliability: The bins.
    """

    accuracy: float
    per_class_accuracy: tuple[float, ...]
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]

    @classmethod
    def of(cls, model: nn.Module, images: ImageDataset) -> ModelReport:
        """Measure a model."""
        logits = predict_logits(model, images.images)
        evaluation, bins = evaluate_logits(logits, images), reliability(logits, torch.from_numpy(images.labels))
        return cls(
            accuracy=evaluation.accuracy,
            per_class_accuracy=evaluation.per_class_accuracy,
            calibration_error=expected_calibration_error(bins),
            reliability=bins,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """What was found.

    Args:
        subject: Whose layers were changed: ``student`` or ``teacher``.
        num_images: Validation images that everything but `saliency` was measured on.
        classes: By label.
        models: By name: ``teacher``, the run's global model, and ``student`` if there is one.
        sensitivity: A row for each layer and change of the subject.
        saliency: None without a student.
        codec: What the tensors were encoded with.
        update_bytes: The whole update in one frame.
        tensors: Each tensor of it alone.
    """

    subject: str
    num_images: int
    classes: tuple[str, ...]
    models: dict[str, ModelReport]
    sensitivity: list[LayerDamage]
    saliency: SaliencyDrift | None
    codec: str
    update_bytes: int
    tensors: list[TensorBytes]

    def to_json(self) -> str:
        """Return all figures; what is not finite, and a class without images, is null."""
        drift = (
            {self.classes[label]: value for label, value in self.saliency.by_class().items()} if self.saliency else {}
        )
        figures = {
            "images": f"{self.num_images} of the validation set",
            "classes": self.classes,
            "models": {name: asdict(report) for name, report in self.models.items()},
            "sensitivity": {"of": self.subject, "rows": [asdict(row) for row in self.sensitivity]},
            "saliency_drift": drift,
            "wire": {
                "of": "final minus initial model, each tensor encoded alone",
                "codec": self.codec,
                "whole_update_bytes": self.update_bytes,
                "tensors": [asdict(row) | {"num_bytes": row.ledger.total} for row in self.tensors],
            },
        }
        return to_json(figures)


def explain_run(
    folder: Path,
    settings: ExplainSettings,
    *,
    student: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Measure a run's global model, and a student beside it; on validation images alone.

    Args:
        folder: Of a finished run.
        settings: What to measure.
        student: A student's folder; its layers are then those that are changed.
        note: Told what begins.

    Raises:
        UsageError: The folder holds no finished run, a setting is out of range, or the extra is not installed.
        DataError: A file is damaged, or there are no validation images.
    """
    run = FinishedRun.read(folder)
    images = run.held_out.validation
    if not len(images):
        raise UsageError(f"{folder} has no validation images to explain on: its validation-size is 0")
    if settings.num_images:
        images = images.take(np.arange(min(settings.num_images, len(images))))
    models = {"teacher": run.model} | ({"student": open_student(student, run.build)} if student else {})
    subject = list(models)[-1]
    note(f"measure on {len(images)} images")
    reports = {name: ModelReport.of(model, images) for name, model in models.items()}
    note(f"change the {subject}'s layers one by one")
    sensitivity = measure_sensitivity(models[subject], images, bits=settings.bits, prune_ratios=settings.prune_ratios)
    saliency = None
    if student:
        note("compare attribution maps")
        few = first_of_each_class(images, settings.maps_per_class)
        saliency = saliency_drift(models["teacher"], models["student"], few)
    note("encode the run's update")
    seed = run.config.seed
    codec, update = parse_codec(_PLAIN if run.config.codec == NO_CODEC else run.config.codec), run.update()
    return Explanation(
        subject=subject,
        num_images=len(images),
        classes=images.class_names or tuple(map(str, range(images.num_classes))),
        models=reports,
        sensitivity=sensitivity,
        saliency=saliency,
        codec=str(codec),
        update_bytes=len(codec.encode(update, rng=derive_rng(seed, "codec")).frame),
        tensors=bytes_by_tensor(update, codec, seed=seed),
    )
