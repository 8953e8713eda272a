"""The service's four calls, and which status each failure has."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc

from fedcomp.errors import ArtifactError, FedcompError, OverLimit, StoreError, UnknownModel, UsageError
from fedcomp.printable import printable
from fedcomp.serving import serving_pb2 as pb
from fedcomp.serving.catalog import Catalog
from fedcomp.serving.images import read_images, softmax
from fedcomp.serving.limits import CHUNK_BYTES
from fedcomp.serving.model_cache import ModelCache
from fedcomp.serving.serving_pb2_grpc import ModelServiceServicer
from fedcomp.store import LoadedModel, unpack_artifact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fedcomp.serving.limits import ServingLimits
    from fedcomp.serving.model_cache import CacheFigures
    from fedcomp.store import ModelStore
    from fedcomp.types import NDArray

    Context: TypeAlias = grpc.aio.ServicerContext

_log = logging.getLogger("fedcomp")

STATUS: dict[type[FedcompError], grpc.StatusCode] = {
    UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    ArtifactError: grpc.StatusCode.DATA_LOSS,
    OverLimit: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StoreError: grpc.StatusCode.UNAVAILABLE,
}
"""The status of each failure; of a subclass, that of its nearest parent here."""

_OF_THE_STORE = (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE)
"""What the operator has to know of."""


@dataclass(frozen=True, slots=True)
class _Content:
    """An ONNX model that can be loaded."""

    content: bytes

    @property
    def num_bytes(self) -> int:
        return LoadedModel.memory_of(self.content)

    def load(self) -> LoadedModel:
        return LoadedModel(self.content)


class ModelService(ModelServiceServicer):
    """Lists, streams and runs the models of a store.

    Args:
        store: The models.
        limits: What it bears.
    """

    def __init__(self, store: ModelStore, limits: ServingLimits) -> None:
        self._store, self._limits = store, limits
        self._catalog = Catalog(store)
        self._models: ModelCache[LoadedModel] = ModelCache(limits.memory_bytes, self._fetch)
        self._workers = ThreadPoolExecutor(limits.workers, thread_name_prefix="fedcomp-predict")
        self._downloads = asyncio.Semaphore(limits.max_downloads)
        self._num_waiting = 0

    @property
    def figures(self) -> CacheFigures:
        """What its cache of models holds and did."""
        return self._models.figures

    def close(self) -> None:
        """Wait for what is being predicted."""
        self._workers.shutdown(cancel_futures=True)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Return a summary of each name's newest version; names whose manifest is damaged are left out and logged."""
        async with _told(context):
            return pb.ListModelsResponse(models=await asyncio.to_thread(self._summaries))

    async def GetManifest(self, request: pb.GetManifestRequest, context: Context) -> pb.GetManifestResponse:
        """Return a version's manifest."""
        async with _told(context):
            listed = await self._catalog.find(request.name, request.digest)
            return pb.GetManifestResponse(manifest=listed.content, digest=listed.digest)

    async def Download(self, request: pb.DownloadRequest, context: Context) -> None:
        """Stream an artifact from an offset on, after its digest and length."""
        async with _told(context), self._downloads:
            listed = await self._catalog.find(request.name, request.digest)
            artifact = await asyncio.to_thread(self._store.artifact, listed.manifest.artifact)
            if request.offset > len(artifact):
                await context.abort(
                    grpc.StatusCode.OUT_OF_RANGE, f"offset is {request.offset}, the artifact has {len(artifact)} bytes"
                )
            start = pb.DownloadStart(artifact=listed.manifest.artifact, artifact_bytes=len(artifact))
            await self._send(pb.DownloadResponse(start=start), context)
            for left in range(request.offset, len(artifact), CHUNK_BYTES):
                await self._send(pb.DownloadResponse(chunk=artifact[left : left + CHUNK_BYTES]), context)

    async def _send(self, part: pb.DownloadResponse, context: Context) -> None:
        """Send a part of a download; end the call if nobody reads it."""
        try:
            async with asyncio.timeout(self._limits.seconds_per_chunk):
                await context.write(part)
        except TimeoutError:
            _log.warning("a download was ended: a part of it was not read within %g s", self._limits.seconds_per_chunk)
            # gRPC can send no status behind a part that nobody reads: the caller's own deadline ends its side.
            raise asyncio.CancelledError from None

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        """Return logits, and classes, of a batch of images."""
        async with _told(context), self._place():
            manifest = (await self._catalog.find(request.name, request.digest)).manifest
            images = read_images(request, manifest.image_shape, self._limits.max_images)
            logits = await self._predict(manifest.artifact, images)
            return pb.PredictResponse(
                logits=logits.reshape(-1).tolist(),
                probabilities=softmax(logits).reshape(-1).tolist() if request.probabilities else [],
                classes=logits.argmax(axis=1).tolist(),
                num_classes=logits.shape[1],
                artifact=manifest.artifact,
            )

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Take a place in the queue of predictions; raises `OverLimit` if there is none."""
        if self._num_waiting >= self._limits.max_waiting:
            raise OverLimit(f"{self._num_waiting} predictions wait already: try again later")
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1

    async def _predict(self, artifact: str, images: NDArray) -> NDArray:
        lease = await self._models.acquire(artifact)
        loop = asyncio.get_running_loop()
        # Given back by the worker: a caller whose deadline passes leaves, but the model is still in use.
        running = self._workers.submit(lease.model.logits, images)
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(lease.release))
        return await asyncio.wrap_future(running)

    async def _fetch(self, artifact: str) -> _Content:
        return await asyncio.to_thread(lambda: _Content(unpack_artifact(self._store.artifact(artifact))))

    def _summaries(self) -> list[pb.ModelSummary]:
        found = []
        for name in self._store.names():
            try:
                versions = self._store.versions(name)
                manifest = self._store.manifest(versions[-1])
            except (StoreError, IndexError) as error:
                _log.warning("model %s is not listed: %s", name, error)
                continue
            found.append(
                pb.ModelSummary(
                    name=name,
                    artifact=manifest.artifact,
                    artifact_bytes=manifest.artifact_bytes,
                    image_shape=manifest.image_shape,
                    num_classes=manifest.num_classes,
                    num_versions=len(versions),
                )
            )
        return found


@asynccontextmanager
async def _told(context: Context) -> AsyncIterator[None]:
    """End a call that fails with the status of its error, and a message of one line."""
    try:
        yield
    except FedcompError as error:
        code = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)
        if code in _OF_THE_STORE:
            _log.error("%s", error)
        # What the store's file system says has its paths, or the URL with a password.
        message = "the store can not be read" if code is grpc.StatusCode.UNAVAILABLE else str(error)
        await context.abort(code, printable(message))
