"""What each layer stands: its weights alone are made coarse or sparse, and the model is measured again."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.codecs import decode, parse_codec
from fedcomp.models import get_weights, set_weights
from fedcomp.student import layer_names, prune_smallest
from fedcomp.training import evaluate_logits, predict_logits
from fedcomp.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from fedcomp.data import ImageDataset
    from fedcomp.types import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDamage:
    """What one change to one layer's weights does to the whole model.

    Args:
        layer: Name of the weights.
        change: ``4 bits``, or ``80% pruned``.
        bits: Of the layer's weights; 32 where none were taken.
        num_weights: In the layer.
        num_bytes: The layer's weights after the change, encoded alone as a frame of fedcomp's.
        accuracy_drop: Untouched minus changed, share of the images, -1 to 1.
        flip_rate: Share of the images that get another class, right or wrong, 0 to 1.
        sqnr_db: Signal-to-noise ratio of the logits, see `signal_to_noise`.
    """

    layer: str
    change: str
    bits: int
    num_weights: int
    num_bytes: int
    accuracy_drop: float
    flip_rate: float
    sqnr_db: float


def measure_sensitivity(
    model: nn.Module, images: ImageDataset, *, bits: Sequence[int], prune_ratios: Sequence[float]
) -> list[LayerDamage]:
    """Change one layer at a time and compare with the untouched model.

    Quantized weights have one symmetric scale an output channel and are rounded to the nearest level; pruned ones lose
    the smallest by magnitude. Layers are the weights of two axes and more: the rest is few.

    Args:
        model: Left as it is.
        images: Labelled, and not the test set: the table is there to choose by.
        bits: Widths to quantize to, 2 to 16 each.
        prune_ratios: Shares to prune, 0 to 1 each.

    Returns:
        A row for each layer and change, in the model's order.

    Raises:
        UsageError: A width or a share is out of range.
        DataError: There is no image, or one has no label.
    """
    changed = copy.deepcopy(model)
    untouched = predict_logits(changed, images.images)
    accuracy = evaluate_logits(untouched, images).accuracy
    rows = []
    for layer in layer_names(model):
        original = get_weights(model, [layer])
        for change, width, weights, num_bytes in _changes(original, bits, prune_ratios):
            set_weights(changed, weights, [layer])
            logits = predict_logits(changed, images.images)
            rows.append(
                LayerDamage(
                    layer=layer,
                    change=change,
                    bits=width,
                    num_weights=original[layer].size,
                    num_bytes=num_bytes,
                    accuracy_drop=accuracy - evaluate_logits(logits, images).accuracy,
                    flip_rate=(logits.argmax(dim=1) != untouched.argmax(dim=1)).float().mean().item(),
                    sqnr_db=signal_to_noise(untouched, logits),
                )
            )
        set_weights(changed, original, [layer])
    return rows


def signal_to_noise(reference: Tensor, changed: Tensor) -> float:
    """Return the signal-to-quantization-noise ratio of logits in decibels; infinite if nothing changed.

    ``10 log10(sum c(x)^2 / sum (c(x) - c(y))^2)``, where c takes the mean off each image's logits: softmax does not see
    it.

    Args:
        reference: (N, K), of the untouched model.
        changed: (N, K).
    """
    signal, other = (logits.double() - logits.double().mean(dim=1, keepdim=True) for logits in (reference, changed))
    noise = (signal - other).square().sum().item()
    power = signal.square().sum().item()
    if not noise:
        return math.inf
    return 10 * math.log10(power / noise) if power else -math.inf


def _changes(
    weights: Model, bits: Sequence[int], prune_ratios: Sequence[float]
) -> Iterator[tuple[str, int, Model, int]]:
    """Yield what a layer can become: the change's name, bits, weights, and bytes as a frame."""
    spec = ModelSpec.of(weights)
    for width in bits:
        frame = parse_codec(f"uniform(bits={width}, scale=channel)").encode(weights).frame
        yield f"{width} bits", width, decode(frame, spec), len(frame)
    for ratio in prune_ratios:
        pruned = prune_smallest(weights, ratio)
        yield f"{ratio:.0%} pruned", 32, pruned, len(parse_codec("float32").encode(pruned).frame)
