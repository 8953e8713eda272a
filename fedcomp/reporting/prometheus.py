"""A run's figures for Prometheus, and whether its server is alive, over HTTP.

The ServerApp runs in a process that Flower starts, and dies with its run. So the figures are not counted there: the
server process reads the rows that the run writes, each time it is asked. It has nothing to do between two questions,
and a run that is resumed, which cuts its rows back, is told right.

Prometheus's own client formats them; it is in the extra ``operations``. Its server has neither a limit of time nor of
threads, so this one stands in its place: Python's WSGI server, a few connections at once, a few seconds each.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import tomllib
from collections import Counter
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from fedcomp.address import Address
from fedcomp.errors import UsageError
from fedcomp.reporting.tail import RowTail
from fedcomp.run_files import CONFIG_FILE, METRICS_FILE, SUMMARY_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import Metric

_MAX_CONNECTIONS, _SECONDS_A_CONNECTION = 8, 10.0
_REFUSED = "rejected_"
_COUNTERS = {
    "uplink_bytes": ("fedcomp_uplink_bytes", "Bytes of the clients' updates, refused ones too."),
    "dense_uplink_bytes": ("fedcomp_uplink_dense_bytes", "The same updates as plain arrays."),
    "downlink_bytes": ("fedcomp_downlink_bytes", "Bytes of the models that clients were sent."),
    "dense_downlink_bytes": ("fedcomp_downlink_dense_bytes", "The same models as plain arrays."),
    "accepted": ("fedcomp_updates_accepted", "Updates that counted."),
    "failed": ("fedcomp_updates_lost", "Clients that were asked and answered with an error, or not at all."),
    "late": ("fedcomp_updates_late", "Updates that came after their round was closed."),
}
"""Which keys of a row are added up, as which counters."""
_GAUGES = {
    "round": ("fedcomp_round", "The last finished round."),
    "accuracy": ("fedcomp_accuracy_ratio", "Of the global model when it was last measured, 0 to 1."),
    "loss": ("fedcomp_loss", "Of the global model when it was last measured."),
    "seconds": ("fedcomp_last_round_duration_seconds", "Duration of the last round."),
}
"""Of which keys of a row the last value is shown, as which gauges."""


class MetricsExporter:
    """Serves ``/metrics`` and ``/healthz`` of one run; entered it listens, left it has stopped.

    Args:
        run_folder: The run's folder, which need not be there yet.
        address: ``PORT``, which is on loopback, ``HOST:PORT`` or ``[IPV6]:PORT``. Port 0 takes a free one.
        is_healthy: Tells whether what the caller watches is well; ``/healthz`` then says 200, else 503.

    Raises:
        UsageError: The address is none, or is taken, or ``prometheus_client`` is not installed.
    """

    def __init__(self, run_folder: Path, address: str, *, is_healthy: Callable[[], bool] = lambda: True) -> None:
        self._host, self._port = Address.parse(address)
        self._run = _RunFigures(run_folder)
        self._application = _Application(self._run, is_healthy)

    def __enter__(self) -> Self:
        try:
            self._server = _Server(self._host, self._port, self._application)
        except OSError as error:
            raise UsageError(f"metrics can not be served at {self._host}, port {self._port}: {error}") from None
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="fedcomp-metrics", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _RunFigures:
    """What a run's folder says, summed up; a collector of Prometheus's client."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._tail = folder, RowTail(folder / METRICS_FILE)
        self._lock = threading.Lock()
        self._forget()

    def health(self) -> dict[str, Any]:
        """Return what ``/healthz`` tells beside its status."""
        with self._lock:
            self._read()
            last = self._last_written()
            return {
                "rounds": self._rounds,
                "finished": self._is_finished(),
                "seconds_since_last_round": None if last is None else round(max(0.0, time.time() - last), 3),
            }

    def collect(self) -> Iterator[Metric]:
        """Yield each figure that is known."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        with self._lock:
            self._read()
            yield CounterMetricFamily("fedcomp_rounds", "Rounds that are finished.", self._rounds)
            for key, (name, about) in _COUNTERS.items():
                yield CounterMetricFamily(name, about, self._sums[key])
            refused = CounterMetricFamily("fedcomp_updates_refused", "Updates that were refused.", labels=["reason"])
            for reason, count in sorted(self._refused.items()):
                refused.add_metric([reason], count)
            yield refused
            gauges = {name: (about, self._latest.get(key)) for key, (name, about) in _GAUGES.items()}
            gauges["fedcomp_rounds_requested"] = ("Rounds that the run shall have.", self._requested_rounds())
            gauges["fedcomp_last_round_timestamp_seconds"] = (
                "When the last round was finished, since 1970.",
                self._last_written(),
            )
            gauges["fedcomp_run_finished"] = ("1 if the run has its summary, else 0.", int(self._is_finished()))
            for name, (about, value) in gauges.items():
                if value is not None:
                    yield GaugeMetricFamily(name, about, value)

    def _read(self) -> None:
        is_void, rows = self._tail.read()
        if is_void:
            self._forget()
        for row in rows:
            self._rounds += 1
            self._sums.update({key: row[key] for key in _COUNTERS if key in row})
            self._refused.update(
                {key.removeprefix(_REFUSED): count for key, count in row.items() if key.startswith(_REFUSED)}
            )
            self._latest |= {key: row[key] for key in _GAUGES if key in row}

    def _forget(self) -> None:
        self._rounds, self._sums, self._refused = 0, Counter[str](), Counter[str]()
        self._latest: dict[str, float] = {}

    def _last_written(self) -> float | None:
        """Return when a row was last written; that is when a round was last finished, in seconds since 1970."""
        return (self._folder / METRICS_FILE).stat().st_mtime if self._rounds else None

    def _requested_rounds(self) -> int | None:
        try:
            config = tomllib.loads((self._folder / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # the run has not begun
        rounds = config.get("num-server-rounds")
        return rounds if isinstance(rounds, int) else None

    def _is_finished(self) -> bool:
        return (self._folder / SUMMARY_FILE).exists()


class _Application:
    """The two pages, as a WSGI application."""

    def __init__(self, run: _RunFigures, is_healthy: Callable[[], bool]) -> None:
        try:
            from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, make_wsgi_app
        except ImportError:
            raise UsageError("metrics need prometheus_client: pip install 'fedcomp[operations]'") from None
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(run)  # type: ignore[arg-type,unused-ignore]  # it asks for `collect`, and no more
        self._pages: dict[str, WSGIApplication] = {"/metrics": make_wsgi_app(registry), "/healthz": self._show_health}
        self._run, self._is_healthy = run, is_healthy

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return _say(start_response, "405 Method Not Allowed", {"status": "GET only"})
        page = self._pages.get(environ["PATH_INFO"], _show_nothing)
        return page(environ, start_response)

    def _show_health(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._is_healthy():
            return _say(start_response, "200 OK", {"status": "ok", **self._run.health()})
        return _say(start_response, "503 Service Unavailable", {"status": "unhealthy", **self._run.health()})


def _show_nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return _say(start_response, "404 Not Found", {"status": "there is /metrics and /healthz"})


def _say(start_response: StartResponse, status: str, content: dict[str, Any]) -> Iterable[bytes]:
    body = (json.dumps(content) + "\n").encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class _Handler(WSGIRequestHandler):
    """Answers one request, and logs none: they come every few seconds."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    """Python's WSGI server with a thread a connection, of which there are few, for a short time.

    A connection beyond that many is closed at once. One that takes too long, however slowly it sends or reads, is shut
    down. Python itself refuses lines of a request beyond 64 KiB, and more than a hundred of them.
    """

    request_queue_size = 64
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, application: WSGIApplication) -> None:
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self.set_app(application)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, if there is one to spare."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer within the time."""
        deadline = threading.Timer(_SECONDS_A_CONNECTION, _cut_off, [request])
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke: whoever asked knows, and asks again."""


def _cut_off(connection: socket.socket) -> None:
    """End a connection under the thread that reads or writes it."""
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
