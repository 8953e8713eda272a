"""From a float32 model to the smallest artifact that is as accurate, within a tolerance.

Each layer's step is chosen by how much the logits mind an error there, weights are rounded so that outputs change
least, and the common factor of all steps is as large as validation images allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.groups import root_mean_square
from fedcomp.errors import UsageError
from fedcomp.store.artifact import MAX_GAIN, pack_artifact, unpack_artifact
from fedcomp.store.grams import input_grams
from fedcomp.store.graph import join_model, parse_onnx, split_model
from fedcomp.store.layers import find_layers
from fedcomp.store.rounding import round_compensated
from fedcomp.store.runtime import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.store.graph import SplitModel
    from fedcomp.store.layers import Layer
    from fedcomp.types import NDArray

STEPS = tuple(float(step) for step in np.geomspace(1.4, 0.02, 32))
"""Common factors that are tried, the coarsest first, in root mean squares of the weights."""

_ZONE, _KEPT_BELOW = 0.1, 64
_PROBE = 0.3
_BATCH = 250


@dataclass(frozen=True, slots=True)
class Measure:
    """Labelled images by which a model is measured: uint8 (N, C, H, W), int64 (N,)."""

    images: NDArray
    labels: NDArray

    def accuracy(self, content: bytes) -> float:
        """Return the share of images whose label an ONNX model finds."""
        model = LoadedModel(content)
        starts = range(0, len(self.images), _BATCH)
        classes = [model.logits(self.images[start : start + _BATCH]).argmax(axis=1) for start in starts]
        return float(np.mean(np.concatenate(classes) == self.labels))


class Compressed(NamedTuple):
    """An artifact, and what it lost.

    Args:
        artifact: Its bytes.
        content: The ONNX model that they decode to.
        codec: Of the weights, as text.
        float_accuracy: Of the float32 model on the validation images.
        accuracy: Of the artifact.
    """

    artifact: bytes
    content: bytes
    codec: str
    float_accuracy: float
    accuracy: float


def compress(
    content: bytes,
    validation: Measure,
    calibration: NDArray,
    *,
    tolerance: float = 0.002,
    steps: Sequence[float] = STEPS,
) -> Compressed:
    """Return the artifact of the coarsest step whose accuracy is within a tolerance of the float32 model's.

    Args:
        content: The float32 model, ONNX.
        validation: Decides; never the test images.
        calibration: Unlabelled images, uint8 (N, C, H, W), from which is learned how layers are used; some hundreds.
        tolerance: Accuracy that may be lost, 0 to 1.
        steps: Tried in this order.

    Raises:
        ArtifactError: The model is no classifier of images in plain ONNX.
        UsageError: There are no images, or of another shape than the model's, or no step is fine enough.
    """
    model = split_model(content)
    _check_images(content, validation.images, calibration)
    rounding = _Rounding.of(model, calibration)
    float_accuracy = validation.accuracy(content)
    for step in steps:
        artifact, codec = rounding.pack(step)
        decoded = unpack_artifact(artifact)
        if (accuracy := validation.accuracy(decoded)) >= float_accuracy - tolerance:
            return Compressed(artifact, decoded, codec, float_accuracy, accuracy)
    raise UsageError(
        f"no step keeps the accuracy of {float_accuracy:.4f} within {tolerance}: the last one, {steps[-1]}, has "
        f"{accuracy:.4f}; raise the tolerance"
    )


class _Rounding(NamedTuple):
    """What is known of a model's layers before their steps are.

    Args:
        model: Skeleton and weights.
        layers: Those whose weights are rounded.
        grams: Of their inputs, by weight.
        relative: Their steps over the common one, by weight, in quarters of an octave.
        size: Root mean square of the weights, by which the common step is measured.
    """

    model: SplitModel
    layers: list[Layer]
    grams: dict[str, NDArray]
    relative: dict[str, int]
    size: float

    @classmethod
    def of(cls, model: SplitModel, calibration: NDArray) -> _Rounding:
        large = {name: values for name, values in model.weights.items() if values.size >= _KEPT_BELOW}
        if not large:
            raise UsageError(
                f"model has no float32 weights of {_KEPT_BELOW} values or more, as where they are int8: there is "
                "nothing to compress"
            )
        skeleton = parse_onnx(model.skeleton)
        layers = find_layers(skeleton, large)
        steps = _even_steps(model, list(large), calibration)
        sizes = [values.size for values in large.values()]
        common = np.average(np.log2(list(steps.values())), weights=sizes)
        octaves = {name: np.rint(4 * (np.log2(step) - common)) for name, step in steps.items()}
        norms = [max(root_mean_square(values.reshape(-1)), 1e-30) for values in large.values()]
        return cls(
            model=model,
            layers=layers,
            grams=input_grams(join_model(skeleton, model.weights), layers, calibration),
            relative={name: int(octave.clip(-MAX_GAIN, MAX_GAIN)) for name, octave in octaves.items()},
            size=float(np.exp2(np.average(np.log2(norms), weights=sizes))),
        )

    def pack(self, step: float) -> tuple[bytes, str]:
        """Round all layers with one common step, and store them; return the codec, too."""
        common = step * self.size
        weights = dict(self.model.weights)
        for layer in self.layers:
            values = weights[layer.weight]
            own = common * 2 ** (self.relative[layer.weight] / 4)
            rounded = round_compensated(values.reshape(len(values), -1), self.grams[layer.weight], own, _ZONE)
            weights[layer.weight] = rounded.reshape(values.shape)
        scaled = [weights[name].reshape(-1) * 2 ** (-gain / 4) for name, gain in self.relative.items()]
        in_rms = common / (root_mean_square(np.concatenate(scaled).astype(np.float32)) or common)
        codec = f"keep(below={_KEPT_BELOW}) | deadzone(step={in_rms:.9g}, zone={_ZONE})"
        gains = {name: -gain for name, gain in self.relative.items()}
        return pack_artifact(self.model._replace(weights=weights), codec, gains), codec


def _even_steps(model: SplitModel, names: Sequence[str], calibration: NDArray) -> dict[str, float]:
    """Return a step for each tensor, up to a common factor: of all with the same sum of bits, the least harmful.

    Harm is the squared error of the logits when that tensor alone is rounded; it grows with the square of the step.
    """
    skeleton, weights = parse_onnx(model.skeleton), dict(model.weights)
    logits = LoadedModel(join_model(skeleton, weights)).logits(calibration)
    steps = {}
    for name in names:
        step = np.float32(_PROBE * root_mean_square(weights[name].reshape(-1)) or 1)
        probe = LoadedModel(join_model(skeleton, weights | {name: np.rint(weights[name] / step) * step}))
        harm = float(np.square(probe.logits(calibration) - logits, dtype=np.float64).mean())
        steps[name] = float(step) * np.sqrt(weights[name].size / max(harm, 1e-12))
    return steps


def _check_images(content: bytes, *images: NDArray) -> None:
    shape = LoadedModel(content).face.image_shape
    for found in images:
        if found.ndim != 4 or found.shape[1:] != shape or not len(found):
            raise UsageError(f"images are of shape {found.shape}, expected (1 or more, {', '.join(map(str, shape))})")
