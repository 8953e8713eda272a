"""A process that stays as the program was when it was forked, and forks workers from that.

Forked late, a worker would be a copy of a program with gigabytes of its own, and with thread pools and locks in some
state that only other threads could resolve. The zygote has one thread, runs nothing but what prepares the workers,
and keeps its memory shared with them. So a worker starts in milliseconds, needs nothing importable or picklable (a
ClientApp may be a closure), and its replacement starts like the first.

It also ends everything: when the program is gone, however that came about, the zygote kills its workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from fedcomp.errors import RunError
from fedcomp.forking import end_with, fork
from fedcomp.simulation.packets import Outbox, make_channel, receive_packet, send_packet, wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedcomp.simulation.packets import Packet

_SECONDS_TO_END = 1.0


class Zygote:
    """The parent's side.

    Args:
        prepare: Called once in the zygote, before the first worker.
        serve: Called in each worker with its end of the channel.
        clean_up: Called in the zygote when all workers have ended, even after the parent was killed.
    """

    def __init__(
        self, *, prepare: Callable[[], None], serve: Callable[[socket.socket], None], clean_up: Callable[[], None]
    ) -> None:
        self._channel, theirs = make_channel()
        self._outbox, self._owner = Outbox(1), os.getpid()

        def run() -> None:
            self._channel.close()
            # What ends a whole process group must leave the one that cleans up after the others.
            _handle_ends(signal.SIG_IGN)
            try:
                prepare()
                _follow(theirs, self._owner, serve)
            finally:
                clean_up()

        self._process_id = fork(run)
        theirs.close()

    def start_worker(self, number: int) -> socket.socket:
        """Start a worker, and return the channel to it; what is sent there before it is up waits for it."""
        ours, theirs = make_channel()
        try:
            send_packet(self._channel, {"start": number}, [], self._outbox, theirs.fileno())
        except OSError:
            ours.close()
            raise RunError("the simulation's zygote process is gone: was it killed?") from None
        finally:
            theirs.close()
        return ours

    def end_worker(self, number: int, *, kill: bool) -> int | None:
        """See that a worker ends, and return its wait status; None if it could not be started.

        Args:
            number: The worker's.
            kill: At once; else only if it does not end by itself, as one does whose channel is closed.
        """
        try:
            send_packet(self._channel, {"end": number, "kill": kill}, [], self._outbox)
            packet = receive_packet(self._channel)
        except OSError:
            packet = None
        if packet is None:
            raise RunError("the simulation's zygote process is gone: was it killed?")
        status: int | None = packet.facts["status"]
        return status

    def close(self) -> None:
        """Kill all workers and the zygote, and wait for them; may be called more than once."""
        if self._channel.fileno() < 0 or self._owner != os.getpid():  # a copy in a worker closes nobody
            return
        with contextlib.suppress(OSError):  # somebody killed it
            send_packet(self._channel, {"stop": True}, [], self._outbox)
        self._channel.close()
        with contextlib.suppress(ChildProcessError):  # the program has waited for all of its children
            os.waitpid(self._process_id, 0)


def _follow(channel: socket.socket, program: int, serve: Callable[[socket.socket], None]) -> None:
    """Start and end workers as the program says, until it says stop or is gone."""
    zygote, outbox, running = os.getpid(), Outbox(1), dict[int, int]()

    def serve_as_worker(theirs: socket.socket) -> None:
        _handle_ends(signal.SIG_DFL)
        end_with(zygote)
        channel.close()
        serve(theirs)

    for order in _orders(channel, program):
        if order.file is not None:
            with socket.socket(fileno=order.file) as theirs, contextlib.suppress(OSError):
                running[order.facts["start"]] = fork(partial(serve_as_worker, theirs))
        else:
            process_id = running.pop(order.facts["end"], None)
            status = process_id and _end(process_id, kill=order.facts["kill"])
            send_packet(channel, {"status": status}, [], outbox)
    for process_id in running.values():
        _end(process_id, kill=True)


def _orders(channel: socket.socket, program: int) -> Iterator[Packet]:
    # The channel's end alone does not tell: whatever else the program has forked holds a copy of its side.
    try:
        watched = os.pidfd_open(program)
    except ProcessLookupError:
        return
    while watched not in wait_readable([channel.fileno(), watched], None):
        order = receive_packet(channel)
        if order is None or "stop" in order.facts:
            return
        yield order


def _handle_ends(handler: signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _end(process_id: int, *, kill: bool) -> int:
    """Wait for a process and return its wait status; if it takes too long, or at once, kill it."""
    deadline = time.monotonic() + (0 if kill else _SECONDS_TO_END)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process_id, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    os.kill(process_id, signal.SIGKILL)
    return os.waitpid(process_id, 0)[1]
