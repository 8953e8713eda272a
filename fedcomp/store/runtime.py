"""A model that runs, by ONNX Runtime on one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import ArtifactError, UsageError
from fedcomp.store.graph import face_of, parse_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.types import NDArray

_ERRORS_ONLY = 3
_SESSION_BYTES = 1 << 17
"""What ONNX Runtime keeps beside weights, rounded up: 60 networks of 60 KB took 202 KiB each, weights included."""


class LoadedModel:
    """A classifier of images in memory. It may be called from several threads at once.

    Args:
        content: ONNX, with weights.
        also: Names of values within the graph that are outputs, too, for `trace`.

    Raises:
        ArtifactError: It is no classifier of images, or does not load.
        UsageError: ONNX Runtime is not installed.
    """

    def __init__(self, content: bytes, also: Sequence[str] = ()) -> None:
        model = parse_onnx(content)
        self.face, self._also = face_of(model), list(also)
        if also:
            model.graph.output.extend(type(model.graph.output[0])(name=name) for name in also)
            content = model.SerializeToString()
        self._session = _open_session(content)

    @staticmethod
    def memory_of(content: bytes) -> int:
        """Return how much memory a model takes, about, before it is loaded: its weights twice, and a session."""
        return 2 * len(content) + _SESSION_BYTES

    def logits(self, images: NDArray) -> NDArray:
        """Return float32 logits (N, K) of uint8 images, or of float32 ones in [0, 1], of shape (N, C, H, W).

        Raises:
            ArtifactError: The model fails on images of its own shape.
        """
        (found,) = self._run([self.face.output_name], images)
        expected = (len(images), self.face.num_classes)
        if found.shape != expected or found.dtype != np.float32:
            raise ArtifactError(f"model returns {found.dtype} of shape {found.shape}, expected float32 {expected}")
        return found

    def trace(self, images: NDArray) -> dict[str, NDArray]:
        """Return the values that were asked for with `also`, by name."""
        found = self._run(self._also, images) if self._also else []  # of no names ONNX Runtime returns all outputs
        return dict(zip(self._also, found, strict=True))

    def _run(self, names: list[str], images: NDArray) -> list[NDArray]:
        pixels = images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images
        try:
            found: list[NDArray] = self._session.run(names, {self.face.input_name: pixels})
        except Exception as error:  # ONNX Runtime's own types, which are not public
            raise ArtifactError(f"model fails on images of shape {images.shape}: {_first_line(error)}") from None
        return found


def _open_session(content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("models run in ONNX Runtime: pip install 'fedcomp[serve]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # else a session keeps the memory of its largest batch
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ArtifactError(f"model does not load: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
