"""What grows in a long run: memory, descriptors, threads and disk of all processes, over many short rounds."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.benchmarks.server.federation import Federation
from fedcomp.benchmarks.simulation.tree import process_tree
from fedcomp.errors import RunError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

_PROC = Path("/proc")
_SECONDS_A_ROUND = 120.0
_SAMPLES = 40
_CLIENTS = 4


class Sample(NamedTuple):
    """What one side has at one moment; processes that live for a message are left out of it.

    Args:
        megabytes: Resident.
        descriptors: Open.
        threads: Running or waiting.
        disk_megabytes: Of its state folder.
    """

    megabytes: float
    descriptors: int
    threads: int
    disk_megabytes: float


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What became of one figure of one side.

    Attributes:
        side: server or client.
        what: A field of `Sample`.
        rounds: How many there were.
        early: Its median in the second quarter of the run.
        late: Its median in the last quarter.
    """

    side: str
    what: str
    rounds: int
    early: float
    late: float


def soak(num_rounds: int, say: Callable[[str], None]) -> list[SoakResult]:
    """Run a server and four clients as real processes, one a round, both directions compressed, for many rounds.

    Args:
        num_rounds: Each takes some seconds: SuperNodes look for work every three, and one that is another than the
            last round's is asked in the middle of its pause.
        say: Takes a line now and then.

    Raises:
        RunError: The run fails, or stands still.
    """
    samples: dict[str, list[Sample]] = {"server": [], "client": []}
    with (
        tempfile.TemporaryDirectory(prefix="fedcomp-soak-") as folder,
        Federation(
            Path(folder),
            num_clients=_CLIENTS,
            fraction_train=1 / _CLIENTS,
            num_server_rounds=num_rounds,
            downlink="q8",
            evaluate_every=100,
        ) as federation,
    ):
        server = federation.start_server()
        clients = [federation.start_client(number) for number in range(_CLIENTS)]
        for done in (1 + num_rounds * step // _SAMPLES for step in range(_SAMPLES)):
            federation.wait_for_rounds(done, _SECONDS_A_ROUND * num_rounds)
            _check_living(clients, federation)
            for side, process in (("server", server), ("client", clients[0])):
                state = federation.folder / ("state" if side == "server" else "client-0")
                samples[side].append(_sample(process, state))
            say(f"round {done}: server {samples['server'][-1]}, client {samples['client'][-1]}")
        if server.wait(_SECONDS_A_ROUND * num_rounds):
            raise RunError(f"the server ended with exit code {server.returncode}: {federation.log('server')[-2000:]}")
    return [
        SoakResult(side, what, num_rounds, *_early_and_late([getattr(sample, what) for sample in found]))
        for side, found in samples.items()
        for what in Sample._fields
    ]


def _check_living(clients: Sequence[subprocess.Popen[bytes]], federation: Federation) -> None:
    """Raise `RunError` if a client has ended: the run can do without, and what has ended does not grow."""
    for number, client in enumerate(clients):
        if client.poll() is not None:
            said = federation.log(f"client-{number}")[-2000:]
            raise RunError(f"client {number} ended with exit code {client.returncode}: {said}")


def _early_and_late(values: list[float]) -> tuple[float, float]:
    quarter = len(values) // 4
    return median(values[quarter : 2 * quarter]), median(values[-quarter:])


def _sample(process: subprocess.Popen[bytes], state: Path) -> Sample:
    megabytes, descriptors, threads = 0.0, 0, 0
    for number in process_tree(process.pid):
        with contextlib.suppress(OSError, LookupError):  # it may end at any moment
            status = _status(number)
            if _lives_for_a_message(number, int(status["PPid"])):
                continue
            megabytes += int(status["VmRSS"].split()[0]) / 1024
            descriptors += len(list((_PROC / str(number) / "fd").iterdir()))
            threads += int(status["Threads"])
    return Sample(megabytes, descriptors, threads, _disk_bytes(state) / 2**20)


def _status(number: int) -> dict[str, str]:
    lines = (_PROC / str(number) / "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _lives_for_a_message(number: int, parent: int) -> bool:
    """Tell whether a process is a ClientApp's: the command's own, or forked from the one that waits."""
    own, of_parent = ((_PROC / str(each) / "cmdline").read_text() for each in (number, parent))
    return "flwr-clientapp" in own or "fedcomp.deployment.warm" in of_parent


def _disk_bytes(folder: Path) -> int:
    num_bytes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            num_bytes += path.stat().st_size
    return num_bytes
