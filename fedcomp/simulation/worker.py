"""A worker process: calls the ClientApp for one message after the other."""

from __future__ import annotations

import os
import queue
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import RecordDict

from fedcomp.flower.messages.encoding import decode_message, encode_message, encode_records, with_content
from fedcomp.forking import flush_output, use_one_thread
from fedcomp.simulation.broadcast import BroadcastReceiver
from fedcomp.simulation.call import call_client, raised
from fedcomp.simulation.global_random import seed_global_random
from fedcomp.simulation.identity import task_identity
from fedcomp.simulation.packets import Outbox, receive_packet, send_packet
from fedcomp.simulation.states import NO_STATE, StateFiles

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from flwr.app import Message
    from flwr.clientapp import ClientApp

    from fedcomp.simulation.packets import Packet
    from fedcomp.simulation.population import Population

MAX_TASKS = 2
"""Tasks that a worker may have been given and not answered: one at work, one that waits."""

_INTERNAL_ERROR = 70


@dataclass(frozen=True)
class ClientRunner:
    """What a worker needs to know; the zygote hands it down by being forked.

    Args:
        client_app: Any ClientApp.
        population: Whom the messages are for.
        state_folder: Where the clients' states are.
    """

    client_app: ClientApp
    population: Population
    state_folder: Path

    def serve(self, channel: socket.socket) -> None:
        """Answer tasks until the channel is closed; then end at once, whatever a client is doing.

        Clients run in a thread of their own, for two reasons. This one sees the channel's end. And a thread that did
        not exist before the fork has no OpenMP pool whose threads the fork left behind: with GNU OpenMP the first
        parallel region in the forked thread would wait for them for ever, should the program have used torch.
        """
        # Whatever a client forks may outlive this process, and would keep the channel's end from being seen.
        os.register_at_fork(after_in_child=channel.close)
        tasks: queue.SimpleQueue[Packet] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(channel, tasks), name="fedcomp-client", daemon=True).start()
        while packet := receive_packet(channel):
            tasks.put(packet)
        os._exit(0)

    def _work(self, channel: socket.socket, tasks: queue.SimpleQueue[Packet]) -> None:
        try:
            use_one_thread()
            broadcasts, states, outbox = BroadcastReceiver(), StateFiles(self.state_folder), Outbox(MAX_TASKS)
            send_packet(channel, {"ready": True}, [], outbox)
            while True:
                task = tasks.get()
                message = _read_message(task, broadcasts)
                facts, parts = self._answer(task, message, states)
                flush_output()  # a worker that is killed flushes nothing
                send_packet(channel, facts, parts, outbox)
        except BrokenPipeError:
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(_INTERNAL_ERROR)

    def _answer(
        self, task: Packet, message: Message, states: StateFiles
    ) -> tuple[dict[str, bool | int | None], list[bytes]]:
        """Return what became of the state, and the parts of the reply."""
        try:
            reply, state, before = self._call(task, message, states)
            if state == before:
                return {"changed": False}, encode_message(reply)
            if state != NO_STATE:
                states.write(task.facts["free"], state)
            return {"changed": True, "empty": state == NO_STATE}, encode_message(reply)
        except Exception as error:  # what the app left can not be encoded or kept
            return {"changed": False}, encode_message(raised(error, message))

    def _call(self, task: Packet, message: Message, states: StateFiles) -> tuple[Message, list[bytes], list[bytes]]:
        """Call the app; return its reply and its client's state after and before."""
        state, before = states.read(task.facts["state"])
        context = self.population.context(task.facts["partition"], state)
        node_id, message_id = message.metadata.dst_node_id, message.metadata.message_id
        seed_global_random(self.population.seed, "client", node_id, message_id)
        with task_identity(run_id=self.population.run_id, node_id=node_id):
            reply = call_client(self.client_app, message, context)
        return reply, encode_records(context.state), before


def _read_message(task: Packet, broadcasts: BroadcastReceiver) -> Message:
    message = decode_message(task.parts)
    if task.file is None:
        return message
    records = {**message.content, **broadcasts.records(task.facts["broadcast"], task.file)}
    return with_content(message, RecordDict({key: records[key] for key in task.facts["order"]}))
