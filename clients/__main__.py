"""An edge client: ``python -m clients --server HOST:PORT --data DIR``."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path  # noqa: TC003 - typer looks at it
from typing import Annotated, Any

import typer

from fedcomp.command_line import LogFileOption, LogFormatOption, LogLevelOption, run_command
from fedcomp.errors import UsageError
from fedcomp.reporting.logs import LogFormat, LogSettings, configure_logging

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(
    epilog="Example: python -m clients --server fl.example.org:8000 --data ~/images --tls ca.crt --key phone.key"
)
def client(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="The server's address.")],
    data: Annotated[
        Path,
        typer.Option(exists=True, help="This client's images: IDX files, .npz, CIFAR batches, or a folder a class."),
    ],
    tls: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Certificate of the authority (ca.crt): use TLS.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="This client's private key, from `keys add`.")
    ] = None,
    frame_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Seal updates with this secret, from `keys seal`."),
    ] = None,
    insecure: Annotated[bool, typer.Option(help="Plain HTTP to another machine; loopback needs no --tls.")] = False,
    state: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="What outlives this process; default ~/.local/state/fedcomp/clients/..."),
    ] = None,
    max_wait: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Without a server, give up; default never.")
    ] = None,
    budget: Annotated[
        int, typer.Option(min=0, metavar="BYTES", help="Most bytes of an update that this client's link bears; 0: any.")
    ] = 0,
    warm: Annotated[bool, typer.Option(help="Keep torch in memory between rounds: they begin seconds earlier.")] = True,
    share: Annotated[
        str | None, typer.Option(metavar="I/N", help="Train on the I-th of N parts of the images, I from 0; for tests.")
    ] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = "info",
    log_file: LogFileOption = None,
) -> None:
    """Train on this machine's own images for a server, until stopped.

    A server that is away is waited for, and come back to. Nothing but compressed updates leaves this machine.
    """
    from clients.process import run_client

    if share and not _is_share(share):
        raise UsageError(f"--share is {share!r}, expected I/N with I from 0 and below N, as in 0/2")
    configure_logging(LogSettings(log_format, log_level, log_file))
    signal.signal(signal.SIGTERM, _stop)
    try:
        run_client(
            server=server, data=data, authority=tls, key=key, frame_key=frame_key, insecure=insecure, state=state,
            max_wait=max_wait, budget=budget, warm=warm, share=share,
        )  # fmt: skip
    except KeyboardInterrupt:
        logging.getLogger("fedcomp").info("stopped")


def _is_share(text: str) -> bool:
    index, _, count = text.partition("/")
    return index.isdecimal() and count.isdecimal() and int(index) < int(count)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(run_command(app, sys.argv[1:], "client"))
