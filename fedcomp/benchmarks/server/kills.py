"""Real processes that are killed at random moments: does the run end as one that nobody killed?

Two clients share the digits and take part in each round, and train from what the round, the client and the seed say. So
a server that is killed and resumed must come to the same model bit for bit, error feedback and downlink included: an
update that were lost, or counted twice, would change it. Where clients are killed, too, rounds close without them at
the deadline, and accuracy alone can be compared.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.benchmarks.server.federation import Federation
from fedcomp.errors import RunError
from fedcomp.run_files import MODEL_FILE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_ROUNDS_A_KILL = 1.5
_LONGEST_PAUSE = 10.0
_SECONDS_FOR_ALL = 7200.0
_CLIENTS = 2


@dataclass(frozen=True, slots=True)
class KilledRun:
    """What became of a run.

    Attributes:
        victims: Who was killed.
        kills: How often.
        rounds_asked: Rounds of the configuration.
        rounds: Rounds in the books, each once.
        accepted: Updates that counted.
        accuracy: Of the final model.
        accuracy_unharmed: Of the same run without kills.
        same_model: Whether both models are the same bit for bit; None where they need not be.
        seconds: Duration.
    """

    victims: str
    kills: int
    rounds_asked: int
    rounds: int
    accepted: int
    accuracy: float
    accuracy_unharmed: float
    same_model: bool | None
    seconds: float


def kill_at_random(num_kills: int, say: Callable[[str], None], seed: int = 0) -> list[KilledRun]:
    """Run once in peace, once with the server killed, and once with server, a client or both killed.

    Args:
        num_kills: In each of the latter; a run has half as many rounds again.
        say: Takes a line for each kill.
        seed: Of the moments and the victims.

    Raises:
        RunError: A run does not end, or not with success.
    """
    num_rounds = max(10, int(num_kills * _ROUNDS_A_KILL))
    unharmed, model, _ = _run(num_rounds, 0, (), random.Random(seed), say)
    found = []
    for victims in (("server",), ("server", "client", "both")):
        summary, own_model, (rounds, seconds) = _run(num_rounds, num_kills, victims, random.Random(seed), say)
        found.append(
            KilledRun(
                victims=", ".join(victims),
                kills=num_kills,
                rounds_asked=num_rounds,
                rounds=rounds,
                accepted=summary["updates_accepted"],
                accuracy=summary["accuracy"],
                accuracy_unharmed=unharmed["accuracy"],
                same_model=own_model == model if victims == ("server",) else None,
                seconds=seconds,
            )
        )
    return found


def _run(
    num_rounds: int, num_kills: int, victims: tuple[str, ...], rng: random.Random, say: Callable[[str], None]
) -> tuple[dict[str, Any], bytes, tuple[int, float]]:
    """Return a run's summary, its model, and how many rounds are in the books after how many seconds."""
    started = time.monotonic()
    deadline = 30 if "client" in victims else 600
    with (
        tempfile.TemporaryDirectory(prefix="fedcomp-kills-") as folder,
        Federation(
            Path(folder), num_server_rounds=num_rounds, round_deadline=deadline, downlink="q8", evaluate_every=100
        ) as federation,
    ):
        federation.data = [federation.data[0]] * _CLIENTS
        clients = [_start_client(federation, number) for number in range(_CLIENTS)]
        server, num_starts = federation.start_server(), 1
        for kill in range(num_kills):
            _live(federation, server, num_starts, rng)
            if server.poll() is not None:
                raise RunError(f"the run ended after {kill} kills: {federation.log('server')[-2000:]}")
            victim, number = rng.choice(victims), rng.randrange(_CLIENTS)
            say(f"kill {kill + 1}: {victim} in round {len(federation.rows()) + 1}")
            if victim != "client":
                federation.kill(server)
            if victim != "server":
                federation.kill(clients[number])
                clients[number] = _start_client(federation, number)
            if victim != "client":
                server, num_starts = federation.start_server("--resume"), num_starts + 1
        if server.wait(_SECONDS_FOR_ALL):
            raise RunError(f"the server ended with exit code {server.returncode}: {federation.log('server')[-2000:]}")
        rounds = [row["round"] for row in federation.rows()]
        if rounds != sorted(set(rounds)):
            raise RunError(f"a round is in the books twice: {rounds}")
        model = (federation.run_folder / MODEL_FILE).read_bytes()
        return federation.summary, model, (len(rounds), time.monotonic() - started)


def _start_client(federation: Federation, number: int) -> subprocess.Popen[bytes]:
    return federation.start_client(number, "--share", f"{number}/{_CLIENTS}")


def _live(federation: Federation, server: subprocess.Popen[bytes], num_starts: int, rng: random.Random) -> None:
    """Let a server listen, perhaps finish a round, and live some seconds more: kills meet starts and rounds alike."""
    num_rounds = len(federation.rows()) + rng.randrange(2)
    federation.wait_for(
        lambda: server.poll() is not None or federation.log("server").count("clients come to") >= num_starts
    )
    federation.wait_for(lambda: server.poll() is not None or len(federation.rows()) >= num_rounds)
    time.sleep(rng.uniform(1, _LONGEST_PAUSE))
