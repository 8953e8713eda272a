"""What the inner strategy is given: the mean of all accepted updates in one reply, or every decoded reply."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi, Strategy

from fedcomp.flower.messages.records import only_array_record, to_array_record
from fedcomp.flower.server.fold import WeightedMean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedcomp.flower.server.screening import AcceptedUpdate
    from fedcomp.types import Model

T = TypeVar("T")

# The classes whose own aggregate_train looks at nothing but the weighted mean of the replies.
_MEANS = (FedAvg, FedAvgM, FedAdam, FedAdagrad, FedYogi)


@dataclass
class Feed:
    """Replies for the inner strategy.

    Attributes:
        replies: What its ``aggregate_train`` receives.
        senders: Node ids whose updates are in it.
        metrics: What the clients said besides arrays, where `replies` does not carry it.
        left_out: Node ids whose updates are not in it, though they were accepted.
    """

    replies: list[Message] = field(default_factory=list)
    senders: list[int] = field(default_factory=list)
    metrics: list[RecordDict] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


def needs_only_the_mean(inner: Strategy) -> bool:
    """Tell whether `inner` aggregates with a method that starts from the weighted mean.

    Some stock methods do. The class of another one says so: it has an attribute ``needs_only_the_mean = True`` of its
    own, which a subclass with its own method does not inherit.
    """
    owner = next(cls for cls in type(inner).__mro__ if "aggregate_train" in cls.__dict__)
    return owner in _MEANS or bool(owner.__dict__.get("needs_only_the_mean"))


def feed_mean(accepted: Iterable[AcceptedUpdate], base: Model, weighted_by: str) -> Feed:
    """Fold updates as they arrive; the feed's one reply carries their mean and their total weight."""
    feed, mean = Feed(), WeightedMean(base)
    for update in accepted:
        mean.add(update.update, update.weight)
        feed.senders.append(update.reply.metadata.src_node_id)
        feed.metrics.append(_without_arrays(update.reply.content))
        feed.replies = [update.reply]
    for reply in feed.replies:
        total = MetricRecord({weighted_by: mean.total_weight})
        reply.content = RecordDict({"arrays": to_array_record(mean.model()), "metrics": total})
    feed.metrics, _ = _by_most_common(feed.metrics, feed.metrics)
    return feed


def feed_each(accepted: Iterable[AcceptedUpdate], base: Model, weighted_by: str) -> Feed:
    """Decode every update into a full model; the feed holds them all at once, as the strategy needs them.

    Each reply is the client's own, with its model in the place of the update. Strategies refuse replies whose records
    or metrics differ in their names, so the most common names win.
    """
    replies = []
    for update in accepted:
        key, _ = only_array_record(update.reply.content)
        update.reply.content[key] = to_array_record(update.client_model())
        replies.append(update.reply)
    kept, others = of_one_schema(replies)
    senders, left_out = ([reply.metadata.src_node_id for reply in each] for each in (kept, others))
    return Feed(replies=kept, senders=senders, left_out=left_out)


@contextlib.contextmanager
def client_metrics(inner: Strategy, metrics: list[RecordDict]) -> Iterator[None]:
    """Let `inner`'s own metrics function see what the clients said, where its replies carry only their mean."""
    if not metrics or not isinstance(inner, FedAvg):
        yield
        return
    aggregate = inner.train_metrics_aggr_fn
    inner.train_metrics_aggr_fn = lambda _, weighted_by: aggregate(metrics, weighted_by)
    try:
        yield
    finally:
        inner.train_metrics_aggr_fn = aggregate


def of_one_schema(replies: list[Message]) -> tuple[list[Message], list[Message]]:
    """Return the replies whose records and metrics have the most common names and list lengths, and the others."""
    return _by_most_common(replies, [reply.content for reply in replies])


def _by_most_common(items: list[T], contents: list[RecordDict]) -> tuple[list[T], list[T]]:
    """Return the items whose contents are of the most common schema, and the others."""
    schemas = [_schema(content) for content in contents]
    most_common = Counter(schemas).most_common(1)
    parts: tuple[list[T], list[T]] = [], []
    for item, schema in zip(items, schemas, strict=True):
        parts[schema != most_common[0][0]].append(item)
    return parts


def _schema(content: RecordDict) -> tuple[object, ...]:
    """Return what Flower's strategies want to be the same in all replies."""
    ((key, metrics),) = content.metric_records.items()
    lengths = sorted((name, len(value) if isinstance(value, list) else -1) for name, value in metrics.items())
    return (*content.array_records, key, *lengths)


def _without_arrays(content: RecordDict) -> RecordDict:
    return RecordDict({key: record for key, record in content.items() if not isinstance(record, ArrayRecord)})
