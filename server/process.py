"""What `python -m server` does: a SuperLink behind a gate, one run on it, its rounds as they finish."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.config import RunConfig
from fedcomp.deployment import Registrar
from fedcomp.deployment.gate import Gate
from fedcomp.deployment.superlink import COMPLETED, ServerCertificates, SuperLink, find_run
from fedcomp.errors import CredentialError, RunError, UsageError
from fedcomp.files import asked_to_write, read_json, try_lock, write_json
from fedcomp.reporting import Progress, RoundRow
from fedcomp.reporting.logs import LogSettings
from fedcomp.reporting.tail import RowTail
from fedcomp.run_files import CONFIG_FILE, METRICS_FILE, SUMMARY_FILE
from fedcomp.simulation.experiment import is_finished

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.address import Address
    from fedcomp.deployment.superlink import RunStatus

_APP = Path(__file__).parent.parent
_SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_QUESTIONS, _SECONDS_FOR_A_GHOST = 0.5, 15.0, 60.0
_SECONDS_WITHOUT_AN_ANSWER = 600.0
_MAX_REQUEST_BYTES = 64 << 20
"""Flower cuts what is longer than a few MiB into several objects, a request each."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What `python -m server` was asked for.

    Args:
        listen: Where clients come.
        certificates: For TLS; None for plain HTTP.
        keys: Folder of the public keys of those who are let in; None lets in everybody.
        state: Folder for everything that outlives this process.
        resume: Go on with the run in `state`; it begins if there is none.
        metrics: Where figures are served; None is nowhere.
        logs: How this process and the ServerApp log.
    """

    listen: Address
    certificates: ServerCertificates | None
    keys: Path | None
    state: Path
    resume: bool
    metrics: str | None = None
    logs: LogSettings = field(default_factory=LogSettings)

    @property
    def run_folder(self) -> Path:
        """Where the run's results are."""
        return self.state / "run"


def serve(config: RunConfig, settings: ServerSettings, progress: Progress) -> dict[str, Any]:
    """Run a configuration to the end with real clients.

    Args:
        config: Of the run; `num_clients` are waited for at first.
        settings: Where and how.
        progress: Shows the rounds.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UsageError: There is a run already and `resume` is not set, another server uses the state, or it can not be
            made.
        RunError: The run failed, or Flower did.
    """
    folder = settings.run_folder
    with asked_to_write(f"the state {settings.state}"):
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_server(settings.state):
        if is_finished(folder) and not settings.resume:
            raise UsageError(f"{folder} holds a run that is finished: choose another --state")
        if not is_finished(folder):
            _serve(_begun(config, settings), settings, progress)
        return read_json(folder / SUMMARY_FILE)


def _serve(config: RunConfig, settings: ServerSettings, progress: Progress) -> None:
    superlink = SuperLink(
        settings.state / "superlink",
        certificates=settings.certificates,
        require_keys=settings.keys is not None,
        environment=settings.logs.environment(),
    )
    with superlink, _metrics(superlink, settings):
        superlink.stop_what_runs()
        registrar = Registrar(superlink.flower, settings.keys) if settings.keys else None
        if registrar and (registered := registrar.sync_if_changed()):
            progress.note(f"keys: {len(registered.node_ids)} clients may come")
        _wait_for_ghosts(settings.run_folder)
        gate = Gate(
            settings.listen,
            superlink.port,
            certificates=settings.certificates,
            max_request_bytes=_MAX_REQUEST_BYTES,
        )
        with gate:
            progress.note(f"clients come to {settings.listen}; the run is in {settings.run_folder}")
            run_id = superlink.submit(_APP, config.to_mapping())
            try:
                _watch(run_id, superlink, settings, progress, registrar)
            except BaseException:
                superlink.stop(run_id)
                raise


def _watch(
    run_id: str, superlink: SuperLink, settings: ServerSettings, progress: Progress, registrar: Registrar | None
) -> None:
    """Show rounds until the run has ended, and let in whose keys are added meanwhile.

    Raises:
        RunError: The run failed, or the SuperLink ended.
    """
    tail = RowTail(settings.run_folder / METRICS_FILE)
    if earlier := tail.read()[1]:
        progress.restore([RoundRow.of(row) for row in earlier])
    asked = answered = time.monotonic()
    while True:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        _show(tail, progress)
        if superlink.process.poll() is not None:
            raise RunError(f"flower-superlink ended with exit code {superlink.process.returncode}; see {superlink.log}")
        # A question starts a process: a run that is finished is asked about at once, any other one seldom.
        if not is_finished(settings.run_folder) and time.monotonic() - asked < _SECONDS_BETWEEN_QUESTIONS:
            continue
        asked = time.monotonic()
        _let_in(registrar, progress)
        try:
            runs = superlink.runs()
            answered = time.monotonic()
        except RunError as error:  # a machine that is busy starts no process in time, and the run goes on meanwhile
            if time.monotonic() - answered > _SECONDS_WITHOUT_AN_ANSWER:
                raise
            progress.note(str(error))
            continue
        run = find_run(runs, run_id)
        if run.status == COMPLETED and is_finished(settings.run_folder):
            _add_traffic(settings.run_folder, runs)
            return
        if run.is_finished:
            raise RunError(f"the run ended as {run.status}:\n{superlink.complaints(run_id)}")


def _show(tail: RowTail, progress: Progress) -> None:
    """Show the rounds that are new."""
    is_void, rows = tail.read()
    if is_void:  # the run has cut its rows back to its checkpoint
        progress.restore([RoundRow.of(row) for row in rows])
    else:
        for row in rows:
            progress.advance(RoundRow.of(row))


def _let_in(registrar: Registrar | None, progress: Progress) -> None:
    """Take up what has changed among the keys; one that can not be taken costs its owner's place, not the run."""
    try:
        if registrar and (changed := registrar.sync_if_changed()):
            progress.note(f"keys: {len(changed.added)} added, {len(changed.removed)} removed")
    except (RunError, CredentialError) as error:
        progress.note(f"keys: {error}")


def _add_traffic(folder: Path, runs: Sequence[RunStatus]) -> None:
    """Add to a run's summary what Flower counted, over all runs of its own that it took: an independent witness."""
    summary = read_json(folder / SUMMARY_FILE)
    summary["wire_uplink_bytes"] = sum(run.bytes_in for run in runs)
    summary["wire_downlink_bytes"] = sum(run.bytes_out for run in runs)
    write_json(folder / SUMMARY_FILE, summary)


def _metrics(superlink: SuperLink, settings: ServerSettings) -> contextlib.AbstractContextManager[Any]:
    if settings.metrics is None:
        return contextlib.nullcontext()
    from fedcomp.reporting.prometheus import MetricsExporter  # needs an extra

    return MetricsExporter(settings.run_folder, settings.metrics, is_healthy=lambda: superlink.process.poll() is None)


def _begun(config: RunConfig, settings: ServerSettings) -> RunConfig:
    """Return the configuration for Flower: a run that begins, or one that goes on.

    Raises:
        UsageError: There is a run, and nobody said that it shall go on; or it began with another configuration.
    """
    folder = settings.run_folder.absolute()
    has_begun = (folder / CONFIG_FILE).is_file()
    if has_begun and not settings.resume:
        raise UsageError(f"{folder} holds a run that is not finished: go on with it with --resume, or choose --state")
    if folder.exists() and not has_begun:
        shutil.rmtree(folder)  # a kill came before the configuration was written: no round was done
    changes: dict[str, Any] = {"out-dir": str(folder), "deployed": True, "resume": has_begun}
    begun = RunConfig.from_mapping(config.to_mapping() | changes).with_absolute_paths()  # apps run elsewhere
    if has_begun:
        begun.as_begun()  # the ServerApp would refuse another configuration, too, but as a failure
    return begun


def _wait_for_ghosts(folder: Path) -> None:
    """Wait until no ServerApp of a server that was killed still writes to the run.

    Raises:
        RunError: One does not end.
    """
    metrics = folder / METRICS_FILE
    deadline = time.monotonic() + _SECONDS_FOR_A_GHOST
    while metrics.is_file():
        with metrics.open("a") as file:
            if try_lock(file):
                return
        if time.monotonic() > deadline:
            raise RunError(f"another process still writes to {folder}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def _only_server(state: Path) -> Iterator[None]:
    with (state / "lock").open("w") as lock:
        if not try_lock(lock):
            raise UsageError(f"another server uses {state}: give each its own --state")
        yield
