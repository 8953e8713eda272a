"""Grids for tests, and what their clients do."""

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from fedcomp.simulation import LocalGrid


def grid_of(train, num_nodes=3, **arguments):
    """Make a grid whose clients do `train`; arguments are those of `LocalGrid`."""
    app = ClientApp()
    app.train()(train)
    return LocalGrid(app, num_nodes=num_nodes, **arguments)


def echo(message, context):
    """Answer with the partition."""
    return answer(message, partition=context.node_config["partition-id"])


def answer(message, **values):
    """Answer with some values."""
    return Message(RecordDict({"config": ConfigRecord(values)}), reply_to=message)


def count_calls(context):
    """Return how often this client has been called before, and count this call."""
    count = context.state["seen"]["count"] if "seen" in context.state else 0
    context.state["seen"] = ConfigRecord({"count": count + 1})
    return count


def messages(grid, content=None):
    """Make a message to every client."""
    return [Message(content or RecordDict(), node, "train") for node in grid.get_node_ids()]


def ask(grid, content=None, **arguments):
    """Ask every client once."""
    return list(grid.send_and_receive(messages(grid, content), **arguments))


def partitions(replies):
    """Return the partitions that answered, or why they did not."""
    return values(replies, "partition")


def values(replies, key):
    """Return one value of each reply, or the reason of its error."""
    return [reply.content["config"][key] if reply.has_content() else reply.error.reason for reply in replies]
