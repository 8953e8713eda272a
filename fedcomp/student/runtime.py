"""A student as ONNX Runtime runs it: what it answers, and how long that takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import DataError
from fedcomp.student.export import INPUT, OUTPUT
from fedcomp.student.extra import student_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.types import NDArray

_BATCH_SIZE = 64
_PIXEL_MAX = np.float32(255)


class OnnxModel:
    """An ONNX file in memory, on one thread of the CPU.

    Args:
        content: Of the file.
        optimized: Whether nodes may be fused and pairs of quantizers become integer kernels, as in production; without,
            every node is computed for itself, which is what the file means.

    Raises:
        DataError: ONNX Runtime does not take the content.
        UsageError: The extra is not installed.
    """

    def __init__(self, content: bytes, *, optimized: bool = True) -> None:
        with student_extra():
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            if not optimized:
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            try:
                self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # its exceptions have no common base
                raise DataError(f"ONNX Runtime refuses the model: {error}") from None

    def logits(self, images: NDArray) -> NDArray:
        """Return float32 logits (N, K) for uint8 images (N, C, H, W)."""
        starts = range(0, len(images), _BATCH_SIZE)
        return np.concatenate([self._run(to_input(images[start : start + _BATCH_SIZE])) for start in starts])

    def seconds(self, batch: NDArray) -> float:
        """Return how long one call takes.

        Args:
            batch: Of `to_input`.
        """
        start = time.perf_counter()
        self._run(batch)
        return time.perf_counter() - start

    def _run(self, batch: NDArray) -> NDArray:
        logits: NDArray = self._session.run([OUTPUT], {INPUT: batch})[0]
        return logits


def to_input(images: NDArray) -> NDArray:
    """Return uint8 images as the graph takes them: float32 in [0, 1]."""
    return images.astype(np.float32) / _PIXEL_MAX


@dataclass(frozen=True, slots=True)
class Parity:
    """Two sets of logits for the same images.

    Args:
        same_class: Share of images whose largest logit is the same one, 0 to 1.
        largest_difference: Between any two logits.
        num_images: How many were compared.
    """

    same_class: float
    largest_difference: float
    num_images: int

    @classmethod
    def of(cls, first: NDArray, second: NDArray) -> Parity:
        """Compare logits (N, K)."""
        same = first.argmax(axis=1) == second.argmax(axis=1)
        return cls(float(same.mean()), float(np.abs(first - second).max()), len(first))


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for one image: the median, and what one call in twenty exceeds."""

    p50_ms: float
    p95_ms: float


def measure_latency(models: Mapping[str, OnnxModel], image: NDArray, *, repeats: int = 1000) -> dict[str, Latency]:
    """Time models on one image, in turns, so that what else the machine does hits all of them.

    Args:
        models: By name.
        image: uint8, (C, H, W).
        repeats: Calls of each that count; a tenth as many come before.
    """
    batch = to_input(image[None])
    times: dict[str, list[Any]] = {name: [] for name in models}
    for _ in range(repeats + repeats // 10):
        for name, model in models.items():
            times[name].append(model.seconds(batch))
    return {
        name: Latency(*(1e3 * np.percentile(seconds[repeats // 10 :], [50, 95])).tolist())
        for name, seconds in times.items()
    }
