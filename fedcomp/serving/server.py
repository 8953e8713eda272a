"""The service as a process: health, reflection, TLS, and an end that lets calls finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fedcomp.deployment.authority import SERVER_CERTIFICATE, SERVER_KEY
from fedcomp.errors import ServingError
from fedcomp.private_files import read_private
from fedcomp.serving import serving_pb2
from fedcomp.serving.service import ModelService
from fedcomp.serving.serving_pb2_grpc import add_ModelServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fedcomp.address import Address
    from fedcomp.serving.limits import ServingLimits
    from fedcomp.store import ModelStore

SERVICE = serving_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
SECONDS_TO_FINISH = 10.0
"""How long calls that have begun may take once the service is told to stop."""

_log = logging.getLogger("fedcomp")


class ModelServer:
    """Answers at an address, within an event loop. Entered it is up; left it has stopped.

    Args:
        store: The models.
        listen: Where; port 0 takes a free one.
        limits: What it bears.
        tls: Folder that ``keys init`` made; None for no TLS.

    Raises:
        ServingError: The address can not be listened to.
        CredentialError: A key or certificate is missing.
    """

    def __init__(self, store: ModelStore, listen: Address, limits: ServingLimits, tls: Path | None = None) -> None:
        self._store, self._listen, self._limits, self._tls = store, listen, limits, tls

    async def __aenter__(self) -> Self:
        self.service = ModelService(self._store, self._limits)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limits.max_request_bytes),
                ("grpc.so_reuseport", 0),  # else a second service would share the port without a word
            ],
            maximum_concurrent_rpcs=self._limits.max_calls,
        )
        add_ModelServiceServicer_to_server(self.service, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = self._bind()
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(SECONDS_TO_FINISH)  # new calls have UNAVAILABLE from here on
        await asyncio.to_thread(self.service.close)

    def _bind(self) -> int:
        try:
            if self._tls is None:
                return int(self._server.add_insecure_port(str(self._listen)))
            pair = read_private(self._tls / SERVER_KEY), read_private(self._tls / SERVER_CERTIFICATE)
            return int(self._server.add_secure_port(str(self._listen), grpc.ssl_server_credentials([pair])))
        except RuntimeError as error:
            raise ServingError(f"{self._listen} can not be listened to: {error}") from None


def serve(store: ModelStore, listen: Address, limits: ServingLimits, *, tls: Path | None, insecure: bool) -> None:
    """Serve a store's models until SIGTERM or SIGINT.

    Raises:
        UsageError: The address is not on loopback, and there is neither TLS nor `insecure`.
        ServingError: The address can not be listened to.
        CredentialError: A key or certificate is missing.
    """
    listen.require_tls(has_tls=tls is not None, insecure=insecure, hint="--tls FOLDER")
    asyncio.run(_serve(ModelServer(store, listen, limits, tls)))


async def _serve(server: ModelServer) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with server:
        _log.info("serving models at port %d", server.port)
        await stopped.wait()
        _log.info("stopping: calls that have begun have %.0f seconds", SECONDS_TO_FINISH)


@contextlib.contextmanager
def serving_in_thread(server: ModelServer) -> Iterator[ModelServer]:
    """Run a server in an event loop of its own, in a thread: for programs that do something else, too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fedcomp-serving", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
