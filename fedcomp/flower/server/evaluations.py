"""Replies to messages that evaluate: Flower's strategies end the run for one that has other metrics than the rest."""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from flwr.common.logger import log

from fedcomp.errors import FrameError
from fedcomp.flower.server.feed import of_one_schema
from fedcomp.flower.server.screening import Uninvited, check_metrics
from fedcomp.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Message


def screen_evaluations(replies: Iterable[Message], asked: Iterable[int], weighted_by: str) -> list[Message]:
    """Return the replies that can be averaged, and those that are errors; what is left out is logged.

    Args:
        replies: Of clients, trusted in nothing.
        asked: Node ids of those who were asked.
        weighted_by: Key of the weight in a reply's metrics.

    Returns:
        One reply of each client at most, with one MetricRecord of finite numbers and a positive weight; of replies
        whose records or metrics differ in their names or lengths, those that most have.
    """
    waiting = set(asked)
    good, errors = [], []
    for reply in replies:
        sender = reply.metadata.src_node_id
        if reply.has_error():
            errors.append(reply)
            continue
        try:
            if sender not in waiting:
                raise Uninvited(f"node {sender} was not asked, or has answered")
            waiting.remove(sender)
            check_metrics(reply, weighted_by)
        except FrameError as error:
            _leave_out(sender, f"{error.reason}: {error}")
            continue
        good.append(reply)
    kept, others = of_one_schema(good)
    for reply in others:
        _leave_out(reply.metadata.src_node_id, "its records or metrics have other names or lengths than most")
    return [*kept, *errors]


def _leave_out(sender: int, why: str) -> None:
    log(WARNING, "%s", printable(f"left out the evaluation of client {sender}: {why}"))
