"""A Grid as Flower's deployed one behaves: ids for messages, replies that are there or not yet, and faults."""

from collections import Counter

import httpx
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedcomp.simulation.identity import set_message_id

REQUEST = httpx.Request("POST", "http://superlink")


class ScriptedSuperLink(Grid):
    """Hold messages until they are pulled, and do what a test says about each client's reply.

    Args:
        answer: Makes the reply to a message; None for none yet.
        refused: Clients for whom no message is taken.
        largest_push: Messages in a request beyond which it is too large.
        away: Errors that the next requests fail with.
    """

    def __init__(self, answer, *, refused=(), largest_push=1 << 30, away=()):
        self.answer, self.refused, self.largest_push, self.away = answer, refused, largest_push, list(away)
        self.waiting, self.asked, self.largest_pull, self.calls = {}, Counter(), 0, 0

    def push_messages(self, messages):
        """Take messages; an empty list is what Flower returns for a request that is too large."""
        self._fail()
        if len(messages) > self.largest_push:
            return []
        ids = []
        for message in messages:
            self.calls += 1
            ids.append("" if message.metadata.dst_node_id in self.refused else f"message-{self.calls}")
            set_message_id(message, ids[-1])
            self.waiting[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids):
        """Return the replies that are there, once."""
        self._fail()
        asked = list(message_ids)
        self.asked.update(asked)
        self.largest_pull = max(self.largest_pull, len(asked))
        replies = []
        for id_ in asked:
            if id_ in self.waiting and (reply := self.answer(self.waiting[id_])) is not None:
                del self.waiting[id_]
                replies.append(reply)
        return replies

    def _fail(self):
        if self.away:
            raise self.away.pop(0)

    def send_and_receive(self, messages, *, timeout=None):
        """Not what a test of streaming may use."""
        raise AssertionError("the Grid's own exchange does not stream")

    def get_node_ids(self):
        return [1, 2, 3]

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def set_run(self, run):
        self._run = run

    @property
    def run(self):
        return Run.create_empty(1)


def order_to(client):
    """Make a message for a client."""
    return Message(RecordDict(), client, "train")


def reply_to(message):
    """Make an empty reply."""
    return Message(RecordDict(), reply_to=message)
