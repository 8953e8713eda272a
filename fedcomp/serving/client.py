"""A client of the service. It needs gRPC alone: neither torch nor ONNX Runtime nor a store."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import grpc
import numpy as np

from fedcomp.deployment.authority import trust
from fedcomp.errors import ServingError
from fedcomp.printable import printable
from fedcomp.private_files import read_private
from fedcomp.serving import serving_pb2 as pb
from fedcomp.serving.serving_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fedcomp.address import Address
    from fedcomp.types import NDArray

_PIXEL_TYPES = {"uint8": pb.PIXEL_TYPE_UINT8, "float32": pb.PIXEL_TYPE_FLOAT32}
_MAX_ANSWER_BYTES = 16 << 20


class CallFailed(ServingError):
    """A call that ended with another status than OK, or with an answer that is none.

    Attributes:
        code: The status; for such an answer ABORTED or DATA_LOSS.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed later."""
        return self.code in _PASSING


_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
    }
)


class Prediction(NamedTuple):
    """What a model says of a batch of images: float32 logits (N, K), int64 classes (N,)."""

    logits: NDArray
    classes: NDArray


@dataclass(frozen=True, slots=True)
class Opened:
    """A download that has begun: the whole artifact's SHA-256 and length, and the chunks from the offset on."""

    artifact: str
    num_bytes: int
    chunks: Iterator[bytes]


class ModelClient:
    """Calls a model service. Entered it is connected when it first has to be; left it is closed.

    Args:
        address: Of the service.
        authority: Certificate of the authority that signed the service's; None for no TLS.
        timeout: Seconds for each call.

    Raises:
        UsageError: The authority's file holds no certificate.
        CredentialError: It can not be read.
    """

    def __init__(self, address: Address, authority: Path | None = None, *, timeout: float = 60.0) -> None:
        self.address, self._timeout = address, timeout
        options = [("grpc.max_receive_message_length", _MAX_ANSWER_BYTES)]
        if authority is None:
            self._channel = grpc.insecure_channel(str(address), options)
        else:
            certificate = read_private(authority)
            trust(authority)  # looked at: without one gRPC fails at each call as if the service were away
            credentials = grpc.ssl_channel_credentials(certificate)
            self._channel = grpc.secure_channel(str(address), credentials, options)
        self._stub = ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def list_models(self) -> list[pb.ModelSummary]:
        """Return a summary of each model's newest version; raises `CallFailed`."""
        with self._told():
            return list(self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout).models)

    def get_manifest(self, name: str, digest: str = "") -> bytes:
        """Return a version's manifest as it is stored; raises `CallFailed`."""
        with self._told():
            answer = self._stub.GetManifest(pb.GetManifestRequest(name=name, digest=digest), timeout=self._timeout)
            return bytes(answer.manifest)

    def open_download(self, name: str, digest: str, offset: int = 0) -> Opened:
        """Begin a download; the chunks, too, raise `CallFailed` when the connection breaks."""
        with self._told():
            answers = self._stub.Download(
                pb.DownloadRequest(name=name, digest=digest, offset=offset), timeout=self._timeout
            )
            start = next(answers).start
        return Opened(start.artifact, start.artifact_bytes, self._chunks(answers))

    def predict(self, name: str, images: NDArray, *, digest: str = "", timeout: float | None = None) -> Prediction:
        """Return what a model says of images, (N, C, H, W), uint8 or float32 from 0 to 1; raises `CallFailed`."""
        request = pb.PredictRequest(
            name=name,
            digest=digest,
            images=np.ascontiguousarray(images).tobytes(),
            shape=images.shape,
            pixel_type=_PIXEL_TYPES.get(images.dtype.name, pb.PIXEL_TYPE_UNSPECIFIED),
        )
        with self._told():
            answer = self._stub.Predict(request, timeout=timeout or self._timeout)
        return self._read_prediction(answer, len(images))

    def _read_prediction(self, answer: pb.PredictResponse, num_images: int) -> Prediction:
        found = len(answer.logits), len(answer.classes)
        if not answer.num_classes or found != (num_images * answer.num_classes, num_images):
            answered = "{} logits and {} classes".format(*found)
            wrong = f"{self.address} answers with {answered} of {answer.num_classes} for {num_images} images"
            raise CallFailed(grpc.StatusCode.DATA_LOSS, wrong)
        logits = np.array(answer.logits, np.float32).reshape(num_images, answer.num_classes)
        return Prediction(logits, np.array(answer.classes, np.int64))

    def _chunks(self, answers: Iterator[pb.DownloadResponse]) -> Iterator[bytes]:
        with self._told():
            for answer in answers:
                yield answer.chunk

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn gRPC's errors into ours."""
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code(), printable(error.details() or "")
            raise CallFailed(code, f"{self.address} says {code.name}: {details}") from None
        except StopIteration:
            raise CallFailed(grpc.StatusCode.ABORTED, f"{self.address} ended a download before it began") from None
