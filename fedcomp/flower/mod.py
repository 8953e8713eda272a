"""The client's side: a Flower mod that turns the app's reply into a compressed update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, MessageType

from fedcomp.codecs import CodingContext, ErrorFeedback, decode, parse_codec
from fedcomp.flower.order import NO_CODEC, ORDER_KEY, CompressionOrder
from fedcomp.flower.records import frame_to_record, only_array_record, to_array_record, to_model
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec, fingerprint_model, subtract_models

if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp.typing import ClientAppCallable, Mod

    from fedcomp.types import ModelDelta

_TOTAL_KEY = "fedcomp.total"
_SENT_KEY = "fedcomp.sent"


def compression_mod() -> Mod:
    """Make the mod that compresses a ClientApp's training replies.

    The app stays as it is: it receives the global model's arrays and replies with its own. The mod sends the
    difference, coded as the server's `CompressedStrategy` orders. A server without one orders nothing, and then
    the mod does nothing.

    The residual of error feedback lives in ``context.state`` and is committed only when the server says that it
    took the update, so a lost or refused update loses nothing and doubles nothing.

    Returns:
        A mod for ``ClientApp(mods=[compression_mod()])``. As the last of several it sees the app's own reply first.
    """
    return _compress_reply


def _compress_reply(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    if ORDER_KEY not in message.content:
        return call_next(message, context)
    order = CompressionOrder.from_record(message.content.config_records[ORDER_KEY])
    del message.content[ORDER_KEY]
    if order.codec == NO_CODEC or not message.metadata.message_type.startswith(MessageType.TRAIN):
        return call_next(message, context)

    base = to_model(only_array_record(message.content)[1])
    moment = CodingContext(
        run=str(message.metadata.run_id),
        sender=str(message.metadata.dst_node_id),
        round=order.round,
        base=fingerprint_model(base),
    )
    reply = call_next(message, context)
    if reply.has_error():
        return reply

    key, local = only_array_record(reply.content)
    delta = subtract_models(to_model(local), base)
    feedback = ErrorFeedback(order.residual_decay)
    total = feedback.compensate(delta, _uncommitted(context.state, feedback, ModelSpec.of(delta), order.acknowledged))
    # Partition ids outlive node ids, which Flower draws anew for each run.
    client = context.node_config.get("partition-id", message.metadata.dst_node_id)
    rng = derive_rng(order.seed, order.round, str(client), "codec")
    frame = parse_codec(order.codec).encode(total, rng=rng, context=moment).frame
    if order.residual_decay:
        context.state[_TOTAL_KEY] = to_array_record(total)
        context.state[_SENT_KEY] = ConfigRecord({"round": order.round, "frame": frame})
    reply.content[key] = frame_to_record(frame)
    return reply


def _uncommitted(state: RecordDict, feedback: ErrorFeedback, spec: ModelSpec, acknowledged: int) -> ModelDelta | None:
    """Return what the server has not got of everything this client ever had to say; None at first."""
    total_record, sent = state.get(_TOTAL_KEY), state.get(_SENT_KEY)
    if not isinstance(total_record, ArrayRecord) or not isinstance(sent, ConfigRecord):
        return None
    total = to_model(total_record)
    if ModelSpec.of(total).fingerprint != spec.fingerprint:
        return None  # the app trains another model now
    if sent["round"] != acknowledged:
        return total
    return feedback.residual(total, decode(bytes(sent["frame"]), spec))  # type: ignore[arg-type]
