"""A ClientApp's process in milliseconds: forked from one that has imported the heavy libraries already.

A SuperNode starts the command ``flwr-clientapp`` for each message, and that imports Flower, NumPy and torch anew:
seconds here, tens of seconds on a small board. The command is found on the PATH, so in front of it we put a script of
that name, which asks a waiting process to fork and to run Flower's own command there. No app's code is imported
beforehand: it comes with the run. If nobody waits, the script runs the command as ever.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.deployment.processes import running, wait_for
from fedcomp.forking import can_fork, end_with, fork, import_what_torch_puts_off

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_COMMAND = "flwr-clientapp"
_LIBRARIES = (
    "numpy",
    "torch",
    "torch.optim",
    "flwr.clientapp",
    "httpcore",
    "pydantic",
    "safetensors.numpy",
    "openzl.ext",
    "pcodec",
)
"""What is imported beforehand, as far as it is installed."""
_MAX_REQUEST_BYTES = 1 << 20
_SECONDS_TO_WARM = 120.0
_SCRIPT = """#!{python} -IS
import json, os, socket, sys
request = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    waiting.connect({address!r})
    socket.send_fds(waiting, [json.dumps(request).encode()], [0, 1, 2])
except OSError:
    os.execv({command!r}, [{command!r}, *sys.argv[1:]])
answer = waiting.recv(1)
sys.exit(answer[0] if answer else 1)
"""


@contextlib.contextmanager
def warm_clientapp(folder: Path, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Keep a warm process waiting; where processes can not be forked, do nothing.

    Args:
        folder: For the script; for its owner alone.
        environment: That SuperNode shall have.

    Yields:
        The environment with the script first on its PATH.
    """
    if not can_fork():
        yield dict(environment)
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = Path(sys.executable).parent / _COMMAND
    script = folder / _COMMAND
    # A socket's path has at most 107 characters, so it is not in a folder that somebody else has named.
    with tempfile.TemporaryDirectory(prefix="fedcomp-warm-") as short:
        address = Path(short) / "socket"
        script.write_text(_SCRIPT.format(python=sys.executable, address=str(address), command=str(command)))
        script.chmod(0o700)
        with running([sys.executable, "-m", __name__, str(address)], environment=environment) as process:
            wait_for(address.exists, process, "the process that waits for ClientApps", _SECONDS_TO_WARM)
            yield {**environment, "PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


def wait_for_requests(address: str) -> None:
    """Import the libraries, then fork a process for each request."""
    (command,) = entry_points(group="console_scripts", name=_COMMAND)
    main = command.load()
    for library in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    import_what_torch_puts_off()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended: the script does
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unready = f"{address}.partial"
    listening.bind(unready)
    listening.listen()
    os.rename(unready, address)  # it is there when it can be connected to
    while True:
        asking, _ = listening.accept()
        with asking, contextlib.suppress(OSError, ValueError):
            request, streams, _, _ = socket.recv_fds(asking, _MAX_REQUEST_BYTES, 3)
            asked = json.loads(request)
            fork(partial(_run, os.getpid(), main, asked, streams, asking))
            for stream in streams:
                os.close(stream)


def _run(
    parent: int, main: Callable[[], None], asked: dict[str, Any], streams: list[int], asking: socket.socket
) -> None:
    """Be the command that was asked for.

    A client that is killed takes this process with it: Flower's own watch over a parent interrupts a thread that may
    wait for answers of a SuperNode that is gone, for ever.
    """
    end_with(parent)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.argv = [_COMMAND, *asked["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        asking.send(bytes([code & 0xFF]))


if __name__ == "__main__":
    wait_for_requests(sys.argv[1])
