"""A server for real clients: ``python -m server --config FILE``; and ``python -m server keys`` for who may come."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fedcomp.command_line import LogFileOption, LogFormatOption, LogLevelOption, run_command
from fedcomp.config import RunConfig
from fedcomp.errors import UsageError
from fedcomp.reporting import Progress, comparison_table
from fedcomp.reporting.logged_progress import LoggedProgress
from fedcomp.reporting.logs import LogFormat, LogSettings, configure_logging
from server.keys import app as keys

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


app.add_typer(keys, name="keys")


class _Stopped(BaseException):
    """Somebody sent a signal; of no `Exception`, so that nothing takes it for a failure."""

    def __init__(self, number: int) -> None:
        self.number = number


@app.callback(
    invoke_without_command=True,
    epilog="Example: python -m server keys init --tls tls --host fl.example.org; "
    "python -m server --config configs/demo.toml --listen 0.0.0.0:8000 --tls tls --require-keys --state state",
)
def server(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The run's configuration, TOML.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key.")] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where clients come; PORT alone is on loopback.")
    ] = "127.0.0.1:8000",
    tls: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder that `keys init` made: use TLS.")
    ] = None,
    require_keys: Annotated[bool, typer.Option(help="Let in only clients whose keys `keys add` registered.")] = False,
    insecure: Annotated[bool, typer.Option(help="Plain HTTP beyond loopback; anybody can read and change it.")] = False,
    state: Annotated[
        Path, typer.Option(file_okay=False, help="What outlives this process: the run, Flower's database.")
    ] = Path("server-state"),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --state, or begin it."),
    ] = False,
    metrics: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Serve /metrics for Prometheus and /healthz there.")
    ] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = "info",
    log_file: LogFileOption = None,
) -> None:
    """Train with real clients: start Flower's SuperLink, let clients in, run, show the rounds, end.

    Exit code 0 means that the run is finished. After a signal or a crash, the same command with --resume goes on.
    """
    if context.invoked_subcommand:
        return
    if config is None:
        raise UsageError("name a configuration with --config")
    logs = LogSettings(log_format, log_level, log_file)
    configure_logging(logs)
    _serve(
        RunConfig.from_toml(config, set_ or []),
        listen=listen, tls=tls, require_keys=require_keys, insecure=insecure, state=state, resume=resume,
        metrics=metrics, logs=logs,
    )  # fmt: skip


def _serve(
    config: RunConfig,
    *,
    listen: str,
    tls: Path | None,
    require_keys: bool,
    insecure: bool,
    state: Path,
    resume: bool,
    metrics: str | None,
    logs: LogSettings,
) -> None:
    from fedcomp.address import Address
    from fedcomp.deployment import NODES_FOLDER
    from fedcomp.deployment.superlink import ServerCertificates
    from server.process import ServerSettings, serve

    address = Address.parse(listen)
    address.require_tls(has_tls=tls is not None, insecure=insecure, hint="--tls DIR")
    if require_keys and not tls:
        raise UsageError("--require-keys needs --tls: without it anybody on the way can take a client's place")
    settings = ServerSettings(
        listen=address,
        certificates=ServerCertificates.of(tls.absolute()) if tls else None,
        keys=tls / NODES_FOLDER if tls and require_keys else None,
        state=state.absolute(),
        resume=resume,
        metrics=metrics,
        logs=logs,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    console, title, is_text = Console(), f"{config.name}: {config.codec}", logs.format is LogFormat.TEXT
    try:
        with (
            Progress(console, title, config.num_server_rounds)
            if is_text
            else LoggedProgress(title, config.num_server_rounds)
        ) as progress:
            summary = serve(config, settings, progress)
    except _Stopped as stopped:
        progress.note("stopped; --resume goes on after the last finished round")
        raise typer.Exit(128 + stopped.number) from None
    if is_text:
        console.print(comparison_table([("fedcomp", summary)]))
    progress.note(f"finished; the run is in {settings.run_folder}")


def _stop(number: int, _: Any) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # ending takes some seconds, and is not to be broken off
    raise _Stopped(number)


if __name__ == "__main__":
    sys.exit(run_command(app, sys.argv[1:], "server"))
