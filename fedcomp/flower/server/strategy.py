"""The server's side: any Flower strategy, fed with decoded updates."""

from __future__ import annotations

import math
from logging import ERROR, WARNING
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import RecordDict
from flwr.common.logger import log
from flwr.serverapp.strategy import FedAvg, Strategy

from fedcomp.codecs import NO_CODEC, ErrorFeedback, parse_codec
from fedcomp.errors import FrameError, InvalidValues, UsageError
from fedcomp.flower.grid.inflating import is_deployed
from fedcomp.flower.grid.streaming_grid import streaming
from fedcomp.flower.messages.authentication import FrameKeys
from fedcomp.flower.messages.budget import check_budget, check_scalable, divide_by_weight, granted
from fedcomp.flower.messages.lineage import new_lineage
from fedcomp.flower.messages.model_order import MODEL_KEY, explain, failure_of
from fedcomp.flower.messages.order import ORDER_KEY, CompressionOrder
from fedcomp.flower.messages.order_record import write_order
from fedcomp.flower.messages.records import num_bytes, only_array_record, to_array_record, to_model, with_types_of
from fedcomp.flower.server.arguments import check_codecs, check_numbers
from fedcomp.flower.server.downlink import Broadcast, Downlink
from fedcomp.flower.server.evaluations import screen_evaluations
from fedcomp.flower.server.feed import client_metrics, feed_each, feed_mean, needs_only_the_mean
from fedcomp.flower.server.inner import (
    begin_from,
    check_inner,
    class_of,
    has_own_loop,
    innermost,
    norm_at_clients,
    only_weight,
    taking_steps_of,
    weighted_by,
)
from fedcomp.flower.server.screening import Inconsistent, Screening
from fedcomp.flower.server.shared_initial import SharedInitial
from fedcomp.flower.server.traffic import DeadlineGrid, RoundTraffic, TimedGrid
from fedcomp.flower.server.undo import remember_attributes
from fedcomp.flower.server.variances import mend_variances
from fedcomp.flower.state.keeping import keep_strategy, restore_strategy
from fedcomp.flower.state.snapshot import Snapshot
from fedcomp.wire import FrameLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Result

    from fedcomp.flower.messages.budget import Budget
    from fedcomp.flower.server.downlink import SentModels
    from fedcomp.flower.server.screening import AcceptedUpdate
    from fedcomp.types import Model


class CompressedStrategy(Strategy):
    """Order compressed updates from the clients, check and decode them, and let `inner` take the step.

    A strategy that starts from the weighted mean (FedAvg, FedAvgM, FedProx, FedAdam, FedYogi, FedAdagrad) receives
    that mean alone: every reply is folded in as it arrives, and memory does not grow with the number of clients.
    Any other strategy (Krum, median, trimmed mean, differential privacy, your own) receives every decoded reply, all
    at once: memory is a full model for each client of a round.

    Flower's strategies for differential privacy with clipping at the clients add noise for updates that are no longer
    than their `clipping_norm`. With error feedback an update also holds what earlier ones left, so what clients clipped
    is not what arrives: inside this strategy decoded updates are clipped once more, to that norm.

    A bad update is refused, counted under its reason and logged; it never ends the round. If fewer than
    `min_replies` updates are left, the round changes nothing.

    Args:
        inner: Any strategy of ``flwr.serverapp.strategy``.
        codec: Codec text or preset name; ``"none"`` asks for plain arrays under the same checks and counts.
        downlink: Codec text or preset name for what is sent to train from: the difference to what each client holds.
            ``"none"`` sends plain arrays. Messages that evaluate are always plain.
        downlink_full: The same for whole models, which new clients are sent and those that lost theirs; empty is
            ``"q8"``, or `downlink` itself if that drops nothing.
        initial: The run's initial model, if the clients' `compression_mod` can build it (its own `initial`): whole
            models are then sent relative to that, and updates are coded with its help. A client that turns out to
            build another one does without.
        downlink_cache_bytes: Most bytes of clients' models that are kept; beyond, the least recently used are
            forgotten, and those clients are sent whole models.
        downlink_max_lag: Most rounds that a client may be behind with what a difference makes; see `HeldModel.as_of`.
        uplink_budget: Most bytes of an update's frame, for a codec with a knob for that; a larger one is refused.
        budget_by_weight: How much more of a round's uplink bytes clients have that count more in the mean, by the
            weight of the last update that was taken from them: see `divide_by_weight`. 0 is not at all.
        downlink_budget: The same for a model's frame, unless it is a whole one.
        residual_decay: Error feedback at the clients, see `ErrorFeedback`; 0 switches it off.
        momentum_correction: DGC's momentum at the clients, see `ErrorFeedback`; 0 switches it off.
        seed: For the clients' stochastic stages.
        limits: Caps for what a client may send.
        clip_update_norm: A decoded update with a larger Euclidean norm is scaled down to it, and counted; 0 switches it
            off.
        authenticate: The clients' keys: then an update counts only with the tag of one of them. Not for plain arrays.
        min_replies: Fewest accepted updates for a step.
        zeros_stay: Weights of two axes and more that are zero in the model are pruned: clients forget what error
            feedback owes them. Their training must leave them zero, and `downlink` send them exactly.
        refine: Called with the round and the model that `inner` made of it; what it returns, of the same names and
            shapes, is the round's model: trained further, or pruned. A function of its arguments alone, or a resumed
            run is another one. Not called in a round that changes nothing.
        on_update: Called with each accepted update, before it is forgotten.
        on_round: Called with the counts of each finished training round.

    Raises:
        UsageError: `inner` is no such strategy, or makes trees; a codec does not parse; an argument is of another kind
            or out of range.
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        codec: str = "thin",
        downlink: str = NO_CODEC,
        downlink_full: str = "",
        initial: Model | None = None,
        downlink_cache_bytes: int = 1 << 31,
        downlink_max_lag: float = 10.0,
        uplink_budget: Budget = 0,
        budget_by_weight: float = 0.0,
        downlink_budget: Budget = 0,
        residual_decay: float = 1.0,
        momentum_correction: float = 0.0,
        seed: int = 0,
        limits: FrameLimits | None = None,
        clip_update_norm: float = 0.0,
        authenticate: FrameKeys | None = None,
        min_replies: int = 1,
        zeros_stay: bool = False,
        refine: Callable[[int, Model], Model] | None = None,
        on_update: Callable[[int, AcceptedUpdate], None] | None = None,
        on_round: Callable[[RoundTraffic], None] | None = None,
    ) -> None:
        check_inner(inner, CompressedStrategy)
        check_codecs(codec=codec, downlink=downlink, downlink_full=downlink_full)
        check_numbers(
            downlink_max_lag=downlink_max_lag,
            downlink_cache_bytes=downlink_cache_bytes,
            budget_by_weight=budget_by_weight,
            residual_decay=residual_decay,
            momentum_correction=momentum_correction,
            seed=seed,
            clip_update_norm=clip_update_norm,
            min_replies=min_replies,
        )
        ErrorFeedback(residual_decay, momentum_correction)  # raises what is out of range here, not at the clients
        if min_replies < 1:
            raise UsageError(f"min_replies is {min_replies}, expected 1 or more")
        if not isinstance(authenticate, FrameKeys | None):
            raise UsageError(f"authenticate is {authenticate!r}, expected FrameKeys, such as FrameKeys(folder)")
        if authenticate and codec == NO_CODEC:
            raise UsageError("plain arrays have no frame to authenticate: set codec, such as lossless")
        if not 0 <= clip_update_norm < math.inf:
            raise UsageError(f"clip_update_norm is {clip_update_norm}, expected 0 or more")
        self.inner = inner
        self.codec = codec if codec == NO_CODEC else str(parse_codec(codec))
        if codec != NO_CODEC:
            check_scalable(codec, uplink_budget)
        check_budget("uplink_budget", uplink_budget)
        check_budget("downlink_budget", downlink_budget)
        if downlink_budget and downlink == NO_CODEC:
            raise UsageError("downlink_budget needs a downlink codec: plain arrays have one size")
        if not 0 <= budget_by_weight <= 2:
            raise UsageError(f"budget_by_weight is {budget_by_weight}, expected 0 to 2")
        self.uplink_budget, self.budget_by_weight = uplink_budget, budget_by_weight
        self._initial = SharedInitial(initial)
        self.downlink: Downlink | None = None
        if downlink != NO_CODEC:
            self.downlink = Downlink(
                downlink,
                initial=self._initial,
                full_codec=downlink_full,
                seed=seed,
                cache_bytes=downlink_cache_bytes,
                max_lag=downlink_max_lag,
                budget=downlink_budget,
            )
        self._sent: SentModels = self.downlink or Broadcast(self._initial)
        self.residual_decay, self.momentum_correction = residual_decay, momentum_correction
        self.seed, self.min_replies = seed, min_replies
        self.limits, self.clip_update_norm = limits or FrameLimits(), clip_update_norm
        self.zeros_stay = zeros_stay
        self._refine, self._on_update, self._on_round = refine, on_update, on_round
        self._lineage = new_lineage()
        self._keys = authenticate
        self._acknowledged: dict[int, int] = {}
        self._refused: dict[int, int] = {}
        self._weights: dict[int, float] = {}
        self._evaluators: list[int] = []
        self._screening: Screening | None = None
        self._base: Model = {}
        self._dense_bytes = 0
        self._traffic = RoundTraffic(round=0)
        self._grid: Grid | None = None
        self._num_late = 0

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *arguments: Any, **named: Any) -> Result:
        """Do all rounds, by `inner`'s own `start` if it has one; replies of Flower's deployed Grid stream.

        See Flower's `Strategy.start`, and `StreamingGrid`.
        """
        loop = taking_steps_of(self, self.inner).start if has_own_loop(self.inner) else super().start
        return loop(self.streaming(grid, initial_arrays), initial_arrays, *arguments, **named)

    def streaming(self, grid: Grid, arrays: ArrayRecord) -> Grid:
        """Return a `StreamingGrid` around Flower's deployed Grid, for models like `arrays`; any other Grid as it is.

        For a loop of your own in the place of `start`: it is what `start` does first.
        """
        return streaming(grid, max_reply_bytes=self.max_reply_bytes(arrays)) if is_deployed(grid) else grid

    def max_reply_bytes(self, arrays: ArrayRecord) -> int:
        """Return more than the arrays of any honest reply take: a frame, or a plain model in up to float64."""
        return self.limits.max_frame_bytes + 8 * num_bytes(arrays)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let `inner` choose the clients and add the order to each message."""
        messages = list(self.inner.configure_train(server_round, arrays, config, grid))
        self._traffic, self._screening = RoundTraffic(round=server_round, sent=len(messages)), None
        self._grid = grid
        if not messages:
            return messages
        broadcast = self._only_model(messages)
        self._base, self._dense_bytes = to_model(broadcast), num_bytes(broadcast)
        self._sent.begin(self._lineage, server_round, self._base)
        budgets = self._budgets(server_round, [message.metadata.dst_node_id for message in messages])
        orders = {}
        for message in messages:
            client = message.metadata.dst_node_id
            model = self._sent.send(client)
            orders[client] = CompressionOrder(
                codec=self.codec,
                seed=self.seed,
                round=server_round,
                residual_decay=self.residual_decay,
                momentum_correction=self.momentum_correction,
                acknowledged=self._acknowledged.get(client, 0),
                refused=self._refused.get(client, 0),
                lineage=self._lineage,
                budget=budgets[client],
                references=self._references(client),
                zeros_stay=self.zeros_stay,
                is_authenticated=self._keys is not None,
            )
            # Stock strategies give all messages the same RecordDict: make one for each.
            message.content = RecordDict({**message.content, ORDER_KEY: write_order(orders[client])})
            if model:
                message.content[MODEL_KEY] = write_order(model[0])
                message.content[only_array_record(message.content)[0]] = model[1]
            self._traffic.downlink_bytes += num_bytes(only_array_record(message.content)[1])
            self._traffic.dense_downlink_bytes += self._dense_bytes
        self._screening = Screening(
            run=self._lineage,
            server_round=server_round,
            codec=self.codec,
            base=self._base,
            sent=self._sent,
            orders=orders,
            weighted_by=weighted_by(self.inner),
            only_weight=only_weight(self.inner),
            limits=self.limits,
            clip_norm=min(self.clip_update_norm or math.inf, norm_at_clients(self.inner)),
            keys=self._keys,
        )
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check, decode and fold each reply as it arrives; then let `inner` aggregate."""
        feed = (feed_mean if needs_only_the_mean(self.inner) else feed_each)(
            self._accept(replies), self._base, weighted_by(self.inner)
        )
        for sender in feed.left_out:
            self._traffic.accepted -= 1
            self._refuse(sender, Inconsistent.reason, Inconsistent("records or metrics have other names than most"))
        arrays, metrics = None, None
        self._traffic.skipped = len(feed.senders) < self.min_replies
        if not self._traffic.skipped:
            undo = remember_attributes(self.inner)
            with client_metrics(self.inner, feed.metrics):
                arrays, metrics = self.inner.aggregate_train(server_round, feed.replies)
            if arrays is not None and (arrays := self._finish_model(server_round, arrays)) is None:
                undo()
        if arrays is not None:
            self._acknowledged |= dict.fromkeys(feed.senders, server_round)
        self._ask_grid()
        self._traffic.log()
        if self._on_round:
            self._on_round(self._traffic)
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave evaluation to `inner`; its messages hold the whole model, as plain arrays."""
        messages = list(self.inner.configure_evaluate(server_round, arrays, config, grid))
        if messages and self.downlink and not self._evaluators:
            log(
                WARNING,
                "clients that evaluate are sent whole models, %d bytes each, whatever the downlink's codec: to measure "
                "at the server instead, set fraction_evaluate=0 and evaluate_fn",
                num_bytes(arrays),
            )
        self._evaluators = [message.metadata.dst_node_id for message in messages]
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Leave evaluation to `inner`; one that averages as Flower does is given the replies that can be averaged."""
        if type(innermost(self.inner)).aggregate_evaluate is FedAvg.aggregate_evaluate:
            replies = screen_evaluations(replies, self._evaluators, weighted_by(self.inner))
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log `inner`'s summary."""
        self.inner.summary()

    def save_state(self) -> Snapshot:
        """Return what the next round needs of the earlier ones.

        Raises:
            CheckpointError: `inner` has an attribute that can not be kept.
        """
        return Snapshot.join(
            {
                "inner": keep_strategy(self.inner),
                "lineage": Snapshot({"lineage": self._lineage}, {}),
                "acknowledged": Snapshot.of_mapping(self._acknowledged, np.int64),
                "refused": Snapshot.of_mapping(self._refused, np.int64),
                "weights": Snapshot.of_mapping(self._weights, np.float64),
                "initial": self._initial.save_state(),
            }
        )

    def restore_state(self, snapshot: Snapshot) -> None:
        """Go on from what `save_state` of a strategy that was built in the same way returned."""
        restore_strategy(self.inner, snapshot.part("inner"))
        self._initial.restore_state(snapshot.part("initial"))
        self._lineage = snapshot.part("lineage").facts["lineage"]
        self._acknowledged = snapshot.part("acknowledged").as_mapping()
        self._refused = snapshot.part("refused").as_mapping()
        self._weights = snapshot.part("weights").as_mapping()

    def _accept(self, replies: Iterable[Message]) -> Iterator[AcceptedUpdate]:
        for reply in replies:
            sender = reply.metadata.src_node_id
            if reply.has_error() and self._is_waiting_for(sender) and (failure := failure_of(reply.error)):
                self._sent.fail(sender, failure)
                self._traffic.rejected[failure] += 1
                self._traffic.complain(
                    f"client {sender} could not take part: {reply.error.reason}", client=sender, reason=failure
                )
                continue
            if reply.has_error() or self._screening is None:
                reason = explain(reply.error) if reply.has_error() else "it was not asked"
                self._traffic.complain(f"client {sender} failed: {reason}", client=sender)
                continue
            self._traffic.uplink_bytes += sum(num_bytes(record) for record in reply.content.array_records.values())
            self._traffic.dense_uplink_bytes += self._dense_bytes
            try:
                update = self._screening.check(reply)
            except FrameError as error:
                self._refuse(sender, error.reason, error)
                continue
            except Exception as error:
                # A flaw in a check must cost its finder's update, not everybody's round.
                log(ERROR, "unexpected error while checking an update", exc_info=True)
                self._refuse(sender, "unexpected", error)
                continue
            self._traffic.accepted += 1
            self._traffic.clipped += update.is_clipped
            self._sent.acknowledge(sender)
            self._weights[sender] = update.weight
            if self._on_update:
                self._on_update(self._traffic.round, update)
            yield update

    def _only_model(self, messages: list[Message]) -> ArrayRecord:
        """Return the model that `inner` sends to all clients; raises `UsageError` if it does not send them the same."""
        _, model = only_array_record(messages[0].content)
        for message in messages:
            _, other = only_array_record(message.content)
            if other is not model and other != model:
                raise UsageError(
                    f"{class_of(self.inner)} sends different models to clients of one round, expected the same to all: "
                    "updates are differences to it"
                )
        return model

    def _finish_model(self, server_round: int, arrays: ArrayRecord) -> ArrayRecord | None:
        """Refine the round's model; None if it is not finite, which changes nothing and counts as a skipped round."""
        arrays = with_types_of(self._base, arrays)
        aggregate: Model = to_model(arrays)
        model = mend_variances(aggregate, self._base)
        if self._refine:
            model = self._refine(server_round, model)
        if model is not aggregate:
            arrays = to_array_record(model)
            begin_from(self.inner, arrays)
        if all(np.isfinite(values).all() for values in model.values() if values.dtype.kind == "f"):
            return arrays
        self._traffic.skipped = True
        self._traffic.complain("the round's model is not finite: the round changes nothing")
        return None

    def _is_waiting_for(self, sender: int) -> bool:
        return self._screening is not None and self._screening.is_waiting_for(sender)

    def _ask_grid(self) -> None:
        """Note what only the Grid knows of a round."""
        if isinstance(self._grid, TimedGrid):
            self._traffic.timing = self._grid.timing
        if isinstance(self._grid, DeadlineGrid):
            self._traffic.late, self._num_late = self._grid.num_late - self._num_late, self._grid.num_late

    def _budgets(self, server_round: int, clients: Iterable[int]) -> dict[int, int]:
        """Return what each client of a round is granted."""
        equal = {client: granted(self.uplink_budget, server_round, client) for client in clients}
        return divide_by_weight(equal, self._weights, self.budget_by_weight)

    def _references(self, client: int) -> tuple[int, ...]:
        """Return what a client's update shall be coded with; nothing if it is not coded."""
        if self.codec == NO_CODEC:
            return ()
        return tuple(reference.fingerprint for reference in self._sent.references(client))

    def _refuse(self, sender: int, reason: str, error: Exception) -> None:
        if isinstance(error, InvalidValues):
            self._refused[sender] = self._traffic.round
        self._traffic.rejected[reason] += 1
        self._traffic.complain(
            f"refused the update of client {sender}: {reason}: {error}", client=sender, reason=reason
        )
