"""A contestant's side of taking turns: wait for the word, work a round, say how it went."""

from __future__ import annotations

import json
import socket
import time


class Turns:
    """Rounds on demand, over a socket that was inherited from the benchmark.

    Args:
        file: The socket's descriptor.
    """

    def __init__(self, file: int) -> None:
        self._channel = socket.socket(fileno=file)
        self._lines = self._channel.makefile("r", encoding="utf-8")
        self._started = 0.0

    def wait(self) -> None:
        """Wait for this contestant's turn, and start its clock."""
        if not self._lines.readline():
            raise SystemExit("the benchmark is gone")
        self._started = time.perf_counter()

    def done(self, examples: int, loss: float) -> None:
        """Stop the clock, and tell what has been done.

        Args:
            examples: Images trained on by all clients of the round.
            loss: Mean over them; 0 if there is none.
        """
        self._say(seconds=time.perf_counter() - self._started, at=time.monotonic(), examples=examples, loss=loss)

    def loading(self, seconds: float) -> None:
        """Tell how long loading the data has delayed the first round."""
        self._say(loading=seconds)

    def _say(self, **facts: float) -> None:
        self._channel.sendall(json.dumps(facts).encode() + b"\n")
