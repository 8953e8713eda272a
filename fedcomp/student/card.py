"""The model card: what a student is, what it lost, and how it was made; for people and for machines."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fedcomp.files import write_atomically, write_json
from fedcomp.run_files import CARD_FILE, README_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fedcomp.student.runtime import Latency, Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of the model.

    Args:
        file: In the student's folder; empty for the teacher, whose file is the run's.
        num_bytes: Of the file; of the teacher as ONNX.
        accuracy: On the test set, as ONNX Runtime answers, 0 to 1.
        validation_accuracy: On the validation set, which decided.
        per_class_accuracy: On the test set, by label; NaN for a class without images.
        latency: One image on one thread.
    """

    file: str
    num_bytes: int
    accuracy: float
    validation_accuracy: float
    per_class_accuracy: tuple[float, ...]
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentCard:
    """Everything that was measured of a student.

    Args:
        model: The architecture's name, before pruning.
        num_parameters: After it.
        image_shape: Channels, height, width.
        classes: By label.
        dataset: Name.
        num_images: Images by use: ``proxy``, ``validation``, ``test``.
        taught_by: ``ensemble`` or ``global``.
        quantization: ``ptq``, ``qat`` or ``none``: the one that was better on the validation set.
        layer_bits: Of weights that have fewer than eight in the int8 model, by name.
        prune_ratio: Share of channels that were removed.
        variants: ``teacher``, ``float32`` and, if quantized, ``int8``.
        parity: ``float32``: torch against ONNX Runtime; ``int8``: what the file says, node by node, against the integer
            kernels that ONNX Runtime makes of it. On the whole test set.
        run: Of the run that trained the teacher, in the names of ``summary.json``: rounds, bytes, seed.
        command: What made it.
        versions: Of the packages that decide about the result.
    """

    model: str
    num_parameters: int
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    dataset: str
    num_images: Mapping[str, int]
    taught_by: str
    quantization: str
    layer_bits: Mapping[str, int]
    prune_ratio: float
    variants: Mapping[str, Variant]
    parity: Mapping[str, Parity]
    run: Mapping[str, Any]
    command: str
    versions: Mapping[str, str]

    @property
    def best(self) -> Variant:
        """The form to ship."""
        return self.variants.get("int8") or self.variants["float32"]

    def write(self, folder: Path) -> None:
        """Write ``card.json`` and ``README.md``."""
        write_json(folder / CARD_FILE, asdict(self))
        write_atomically(folder / README_FILE, self.to_markdown().encode())

    def to_markdown(self) -> str:
        """Return the card for people."""
        teacher, shape = self.variants["teacher"], " x ".join(map(str, self.image_shape))
        facts = {
            "architecture": f"`{self.model}`, {self.prune_ratio:.0%} of its channels pruned",
            "parameters": self.num_parameters,
            "taught by": f"{self.taught_by}, on {self.num_images['proxy']:,} unlabelled images",
            "data": f"{self.dataset}; chosen on {self.num_images['validation']:,} validation images, "
            f"measured on {self.num_images['test']:,} test images",
            "input": f"`images`, float32 (batch, {shape}), pixels in [0, 1]",
            "output": f"`logits`, float32 (batch, {len(self.classes)}): {', '.join(self.classes)}",
            "int8": _QUANTIZATIONS[self.quantization],
            "weights of fewer bits": ", ".join(f"`{name}` {bits}" for name, bits in self.layer_bits.items()) or "none",
        } | {
            key.replace("_", " "): f"{value:,}" if isinstance(value, int) else value for key, value in self.run.items()
        }
        forms = [
            (
                name,
                f"`{form.file}`" if form.file else "-",
                f"{form.num_bytes:,}",
                f"{form.accuracy:.2%}",
                f"{100 * (form.accuracy - teacher.accuracy):+.2f}",
                f"{form.latency.p50_ms:.3f} / {form.latency.p95_ms:.3f}",
            )
            for name, form in self.variants.items()
        ]
        classes = [
            (
                name,
                *(_measured(form.per_class_accuracy[label], ".1%") for form in self.variants.values()),
                _measured(100 * (self.best.per_class_accuracy[label] - teacher.per_class_accuracy[label]), "+.1f"),
            )
            for label, name in enumerate(self.classes)
        ]
        parity = [
            (name, f"{p.same_class:.2%}", f"{p.largest_difference:.2g}", f"{p.num_images:,}")
            for name, p in self.parity.items()
        ]
        return "\n\n".join(
            [
                f"# Student of a federated run on {self.dataset}",
                _table(("what", "is"), facts.items()),
                "## Accuracy, size, speed",
                _table(("", "file", "bytes", "accuracy", "points to teacher", "p50 / p95 ms"), forms),
                "One image, one thread, ONNX Runtime, all forms in turns in one process; the teacher as float32 ONNX.",
                "## By class",
                _table(("class", *self.variants, "points to teacher"), classes),
                "## The same answers?",
                _table(("", "same class", "largest difference of logits", "images"), parity),
                "`float32`: torch against ONNX Runtime. `int8`: the file node by node against the integer kernels that "
                "ONNX Runtime makes of it.",
                "## Made by",
                f"```\n{self.command}\n```",
                ", ".join(f"{package} {version}" for package, version in self.versions.items()),
                "## Licence",
                "fedcomp is under Apache-2.0. The data that this model was trained on have a licence of their own, "
                "which may bind the model, too.",
                "",
            ]
        )


_QUANTIZATIONS = {
    "ptq": "weights by channel, activations by tensor; quantized after training",
    "qat": "weights by channel, activations by tensor; quantized in training",
    "none": "not made",
}


def _measured(value: float, pattern: str) -> str:
    return "-" if math.isnan(value) else format(value, pattern)


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|")
