"""What a network may reach of a SuperLink: its Fleet API, in requests of bounded size, and whether it is up.

Flower serves three APIs on one port. Without an account system, which Flower's open edition has none of, whoever
reaches the Control API can submit apps, which run on the server and on every client, and whoever reaches the Runtime
API can take the ServerApp's place. So the SuperLink listens on loopback, and this gate listens to the network and
passes on what SuperNodes need. Requests and answers pass unchanged, with the SuperNodes' signatures.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from typing import TYPE_CHECKING

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fedcomp.address import LOOPBACK
from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import Self

    from starlette.requests import Request

    from fedcomp.address import Address
    from fedcomp.deployment.superlink import ServerCertificates

_FLEET, _HEALTH = "/v1/fleet/{call:str}", "/health"
_CALLS = frozenset(
    {
        "register-node", "activate-node", "deactivate-node", "unregister-node", "send-node-heartbeat",
        "pull-messages", "push-messages", "get-run", "get-fab", "push-object", "pull-object",
        "confirm-message-received",
    }
)  # fmt: skip
"""The Fleet API of Flower 1.41."""
_OF_ONE_HOP = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_MAX_REQUESTS_AT_ONCE, _MAX_BYTES_AT_ONCE = 1000, 1 << 30
_SECONDS_FOR_A_BODY, _SECONDS_FOR_AN_ANSWER = 600.0, 120.0
_SECONDS_TO_START, _SECONDS_BETWEEN_LOOKS = 30.0, 0.05


class Gate:
    """Listens in a thread. Entered it is up; left it is closed.

    Args:
        listen: Where.
        superlink_port: Of the SuperLink on loopback.
        certificates: For TLS, here and at the SuperLink; None for plain HTTP at both.
        max_request_bytes: A longer request is refused before it is passed on.

    Raises:
        RunError: The address can not be listened to.
    """

    def __init__(
        self,
        listen: Address,
        superlink_port: int,
        *,
        certificates: ServerCertificates | None,
        max_request_bytes: int,
    ) -> None:
        self._listen, self._max_request_bytes, self._num_bytes_held = listen, max_request_bytes, 0
        scheme, verify = "http", ssl.create_default_context()
        tls = {}
        if certificates:
            scheme, verify = "https", ssl.create_default_context(cafile=str(certificates.authority))
            tls = {"ssl_certfile": str(certificates.certificate), "ssl_keyfile": str(certificates.key)}
        self._superlink = httpx.AsyncClient(
            base_url=f"{scheme}://{LOOPBACK}:{superlink_port}",
            verify=verify,
            timeout=_SECONDS_FOR_AN_ANSWER,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            trust_env=False,
        )
        routes = [Route(_FLEET, self._pass_on, methods=["POST"]), Route(_HEALTH, self._health, methods=["GET"])]
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes, lifespan=self._lifespan),
                host=listen.host,
                port=listen.port,
                log_config=None,  # as this process logs
                log_level="error",
                access_log=False,
                server_header=False,
                limit_concurrency=_MAX_REQUESTS_AT_ONCE,
                timeout_graceful_shutdown=2,
                **tls,  # type: ignore[arg-type]
            )
        )
        self._thread = threading.Thread(target=self._serve, name="fedcomp-gate", daemon=True)
        self._failure = ""

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(_SECONDS_BETWEEN_LOOKS)
        if not self._server.started:
            raise RunError(f"{self._listen} can not be listened to: {self._failure or 'is something there already?'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def _serve(self) -> None:
        try:
            self._server.run()
        except (OSError, SystemExit) as error:  # uvicorn leaves with an exit code where it can not bind
            self._failure = "" if isinstance(error, SystemExit) else str(error)

    async def _health(self, request: Request) -> Response:
        try:
            answer = await self._superlink.get(_HEALTH)
        except httpx.HTTPError:
            return PlainTextResponse("the SuperLink does not answer", 503)
        return PlainTextResponse("ok" if answer.is_success else "the SuperLink is not well", answer.status_code)

    async def _pass_on(self, request: Request) -> Response:
        call = request.path_params["call"]
        if call not in _CALLS:
            return PlainTextResponse("not found", 404)
        body, num_bytes = [], 0
        try:
            async with asyncio.timeout(_SECONDS_FOR_A_BODY):
                async for piece in request.stream():
                    num_bytes += len(piece)
                    self._num_bytes_held += len(piece)
                    body.append(piece)
                    if num_bytes > self._max_request_bytes:
                        return PlainTextResponse(f"a request has at most {self._max_request_bytes} bytes", 413)
                    if self._num_bytes_held > _MAX_BYTES_AT_ONCE:
                        return PlainTextResponse("too much at once", 503)  # SuperNodes try again
            return await self._ask(call, request, body)
        except TimeoutError:
            return PlainTextResponse(f"the request took more than {_SECONDS_FOR_A_BODY:g} s to arrive", 408)
        except ClientDisconnect:
            return PlainTextResponse("nobody is there to read this", 400)
        finally:
            self._num_bytes_held -= num_bytes

    async def _ask(self, call: str, request: Request, body: list[bytes]) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in _OF_ONE_HOP]
        headers.append(("content-length", str(sum(map(len, body)))))
        pieces = _pieces(body)  # joined, they would be in memory twice
        asked = self._superlink.build_request("POST", f"/v1/fleet/{call}", headers=headers, content=pieces)
        try:
            answer = await self._superlink.send(asked, stream=True)
        except httpx.HTTPError:
            return PlainTextResponse("the SuperLink does not answer", 503)  # SuperNodes try again
        kept = {name: value for name, value in answer.headers.items() if name not in _OF_ONE_HOP}
        return StreamingResponse(_stream(answer), answer.status_code, kept)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self._superlink:
            yield


async def _pieces(body: list[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


async def _stream(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
