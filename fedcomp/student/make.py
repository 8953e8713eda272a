"""From a teacher to a student's files: distill, prune, quantize, export, verify, write the card."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from fedcomp.distillation import DistillReport, DistillSettings, distill, distillation_loss
from fedcomp.errors import UsageError
from fedcomp.files import write_atomically
from fedcomp.student.card import StudentCard, Variant
from fedcomp.student.channels import prune_channels
from fedcomp.student.export import export_onnx, fold_batch_norm
from fedcomp.student.layer_bits import layer_bits
from fedcomp.student.pack_weights import pack_weights
from fedcomp.student.quantize import quantize_after_training, train_quantized
from fedcomp.student.runtime import OnnxModel, Parity, measure_latency
from fedcomp.student.store import save_student
from fedcomp.training import Evaluation, evaluate_logits, memory_format, predict_logits, to_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset

FLOAT_FILE, INT8_FILE = "student.onnx", "student-int8.onnx"
_PRUNING_STEPS = 4
_TAYLOR_IMAGES = 512
_PACKAGES = ("fedcomp", "torch", "torchao", "torch-pruning", "onnx", "onnxscript", "onnxruntime", "numpy")

Quantization = Literal["ptq", "qat", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSettings:
    """How a student is made.

    Args:
        model: Name of its architecture.
        distill: How it learns from the teacher.
        prune_ratio: Share of its channels that are removed, by a first-order Taylor expansion of the distillation
            loss; 0 up to 0.9.
        quantize: ``ptq``; ``qat`` for the better of both on the validation set; ``none``.
        bits: Of weights that have fewer than eight, by pattern of their name; see `layer_bits`.
        seed: For everything random.
    """

    model: str
    distill: DistillSettings
    prune_ratio: float = 0.0
    quantize: Quantization = "ptq"
    bits: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def of(cls, config: RunConfig) -> StudentSettings:
        """Return what a run's configuration says."""
        return cls(
            model=config.student_model,
            distill=DistillSettings.of(config),
            prune_ratio=config.student_prune,
            quantize=config.student_quantize,
            bits=config.layer_bits,
            seed=config.seed,
        )


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a student learns from and is measured on.

    Args:
        taught_by: ``ensemble`` or ``global``.
        teacher_logits: (N, K), for the N proxy images.
        proxy: Unlabelled; learning and calibration.
        validation: Labelled; all decisions.
        test: Labelled; the figures of the card, and nothing else.
        hints: (N, D), the teacher's features of the proxy images; None where they are not used.
    """

    taught_by: str
    teacher_logits: Tensor
    proxy: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    hints: Tensor | None = None


def train_student(student: nn.Module, lesson: Lesson, settings: StudentSettings) -> DistillReport:
    """Distill into `student` in place and remove channels; each step of pruning is followed by more distillation."""

    def teach(model: nn.Module, how: DistillSettings) -> DistillReport:
        with memory_format(model, "channels-last"):
            return distill(
                model,
                lesson.teacher_logits,
                lesson.proxy,
                lesson.validation,
                how,
                seed=settings.seed,
                hints=lesson.hints,
            )

    report = teach(student, settings.distill)
    if settings.prune_ratio:
        after_each = replace(settings.distill, epochs=max(1, settings.distill.epochs // _PRUNING_STEPS))
        reports: list[DistillReport] = []
        few = to_images(lesson.proxy.images[:_TAYLOR_IMAGES])
        prune_channels(
            student,
            lesson.proxy.image_shape,
            settings.prune_ratio,
            steps=_PRUNING_STEPS,
            fine_tune=lambda model: reports.append(teach(model, after_each)),
            loss=lambda model: distillation_loss(
                model(few), lesson.teacher_logits[:_TAYLOR_IMAGES], settings.distill.temperature
            ),
        )
        report = reports[-1]
    return report


def export_student(
    student: nn.Module,
    teacher: nn.Module,
    lesson: Lesson,
    settings: StudentSettings,
    folder: Path,
    *,
    run: Mapping[str, Any],
    command: str,
    note: Callable[[str], None] = lambda _: None,
) -> StudentCard:
    """Write a trained student's files: float16 weights, ONNX as float32 and int8, the card.

    Args:
        student: Trained, see `train_student`.
        teacher: The model that it is compared with.
        lesson: Data and teacher's logits.
        settings: What else to do.
        folder: Where; made if it is not there.
        run: Facts about the teacher's training, for the card.
        command: What the user called, for the card.
        note: Told what begins.

    Returns:
        The card, as written.

    Raises:
        UsageError: The extra is not installed, or a pattern of the bits fits no layer.
    """
    shape, classes = lesson.proxy.image_shape, _class_names(lesson.proxy)
    facts = {"model": settings.model, "dataset": lesson.proxy.name, "classes": json.dumps(classes), "pixels": "0 to 1"}
    note("export to ONNX")
    folded = fold_batch_norm(student)
    contents = {
        "teacher": export_onnx(teacher.eval(), shape, facts | {"model": "teacher"}),
        "float32": export_onnx(folded, shape, facts),
    }
    quantization: Quantization = settings.quantize
    if settings.quantize != "none":
        note(f"quantize ({settings.quantize})")
        quantization, contents["int8"] = _quantize(folded, contents["float32"], facts, lesson, settings)
    note("verify on the test set")
    models = {name: OnnxModel(content) for name, content in contents.items()}
    test_logits = {name: model.logits(lesson.test.images) for name, model in models.items()}
    parity = {"float32": Parity.of(predict_logits(student, lesson.test.images).numpy(), test_logits["float32"])}
    if "int8" in contents:
        by_the_letter = OnnxModel(contents["int8"], optimized=False)
        parity["int8"] = Parity.of(by_the_letter.logits(lesson.test.images), test_logits["int8"])
    note("measure latency")
    latency = measure_latency(models, lesson.test.images[0])
    folder.mkdir(parents=True, exist_ok=True)
    save_student(folder, student)
    files = {"float32": FLOAT_FILE, "int8": INT8_FILE}
    for name in files.keys() & contents.keys():
        write_atomically(folder / files[name], contents[name])
    card = StudentCard(
        model=settings.model,
        num_parameters=sum(parameter.numel() for parameter in student.parameters()),
        image_shape=shape,
        classes=classes,
        dataset=lesson.proxy.name,
        num_images={
            "proxy": len(lesson.proxy) // settings.distill.views,
            "validation": len(lesson.validation),
            "test": len(lesson.test),
        },
        taught_by=lesson.taught_by,
        quantization=quantization,
        layer_bits=layer_bits(student, settings.bits),
        prune_ratio=settings.prune_ratio,
        variants={
            name: Variant(
                file=files.get(name, ""),
                num_bytes=len(content),
                accuracy=(on_test := evaluate_logits(torch.from_numpy(test_logits[name]), lesson.test)).accuracy,
                validation_accuracy=_evaluate(models[name], lesson.validation).accuracy,
                per_class_accuracy=on_test.per_class_accuracy,
                latency=latency[name],
            )
            for name, content in contents.items()
        },
        parity=parity,
        run=run,
        command=command,
        versions={package: _version(package) for package in _PACKAGES} | {"python": platform.python_version()},
    )
    card.write(folder)
    return card


class _Quantized(NamedTuple):
    how: Quantization
    content: bytes


def _quantize(
    folded: nn.Module, float_content: bytes, facts: Mapping[str, str], lesson: Lesson, settings: StudentSettings
) -> _Quantized:
    """Quantize after training; if asked to, in training as well, and keep what is better on the validation set."""
    bits = layer_bits(folded, settings.bits)
    found = [_Quantized("ptq", quantize_after_training(float_content, lesson.proxy.images, bits))]
    if settings.quantize == "qat":
        gently = replace(
            settings.distill,
            epochs=max(1, settings.distill.epochs // 4),
            learning_rate=settings.distill.learning_rate / 10,
        )
        trained = train_quantized(
            folded, lesson.teacher_logits, lesson.proxy, lesson.validation, gently, seed=settings.seed, bits=bits
        )
        content = export_onnx(trained, lesson.proxy.image_shape, facts)
        found.append(_Quantized("qat", pack_weights(content) if bits else content))
    return max(found, key=lambda form: _evaluate(OnnxModel(form.content), lesson.validation).accuracy)


def _evaluate(model: OnnxModel, dataset: ImageDataset) -> Evaluation:
    return evaluate_logits(torch.from_numpy(model.logits(dataset.images)), dataset)


def _class_names(dataset: ImageDataset) -> tuple[str, ...]:
    return dataset.class_names or tuple(map(str, range(dataset.num_classes)))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"a student's files need {package}, which is not installed") from None
