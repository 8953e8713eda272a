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
from fedcomp.store.artifact import MAX_GAIN, Packed, pack_artifact, unpack_artifact
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
        packed, codec = rounding.pack(step)
        if (accuracy := validation.accuracy(packed.content)) >= float_accuracy - tolerance:
            return Compressed(packed.artifact, packed.content, codec, float_accuracy, accuracy)
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
        skeleton, weights = parse_onnx(model.skeleton), model.weights
        layers = find_layers(skeleton, weights)
        exact = join_model(skeleton, weights)
        pixels = calibration.astype(np.float32) / np.float32(255)
        loaded = LoadedModel(
            exact, also=sorted({layer.source for layer in layers} - {LoadedModel(exact).face.input_name})
        )
        inputs = loaded.trace(calibration) | {loaded.face.input_name: pixels}
        logits = loaded.logits(calibration)
        steps = {}
        for name in (name for name, values in weights.items() if values.size >= _KEPT_BELOW):
            values = weights[name]
            step = np.float32(_PROBE * root_mean_square(values.reshape(-1)) or 1)
            probe = LoadedModel(join_model(skeleton, dict(weights) | {name: np.rint(values / step) * step}))
            harm = float(np.square(probe.logits(calibration) - logits, dtype=np.float64).mean())
            # Of all steps with the same sum of bits, these do the least harm: harm grows with the square of a step.
            steps[name] = float(step) * np.sqrt(values.size / max(harm, 1e-12))
        if not steps:
            raise UsageError(f"model has no weights of {_KEPT_BELOW} values or more: there is nothing to compress")
        sizes = [weights[name].size for name in steps]
        mean = np.average(np.log2(list(steps.values())), weights=sizes)
        relative = {
            name: int(np.rint(4 * (np.log2(step) - mean)).clip(-MAX_GAIN, MAX_GAIN)) for name, step in steps.items()
        }
        norms = [root_mean_square(weights[name].reshape(-1)) for name in steps]
        size = float(np.exp2(np.average(np.log2(np.maximum(norms, 1e-30)), weights=sizes)))
        grams = {layer.weight: layer.gram(inputs[layer.source]) for layer in layers if layer.weight in steps}
        return cls(model, [layer for layer in layers if layer.weight in steps], grams, relative, size)

    def pack(self, step: float) -> tuple[Packed, str]:
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
        artifact = pack_artifact(self.model._replace(weights=weights), codec, gains)
        return Packed(artifact, unpack_artifact(artifact)), codec


def _check_images(content: bytes, *images: NDArray) -> None:
    shape = LoadedModel(content).face.image_shape
    for found in images:
        if found.ndim != 4 or found.shape[1:] != shape or not len(found):
            raise UsageError(f"images are of shape {found.shape}, expected (1 or more, {', '.join(map(str, shape))})")
