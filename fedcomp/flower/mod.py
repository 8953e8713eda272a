"""The client's side: a Flower mod that turns the app's reply into a compressed update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import MessageType

from fedcomp.codecs import CodingContext, ErrorFeedback, parse_codec
from fedcomp.flower.memory import recall, remember
from fedcomp.flower.order import NO_CODEC, ORDER_KEY, CompressionOrder
from fedcomp.flower.records import frame_to_record, only_array_record, to_model
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec, fingerprint_model, subtract_models

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp.typing import ClientAppCallable, Mod


def compression_mod() -> Mod:
    """Make the mod that compresses a ClientApp's training replies.

    The app stays as it is: it receives the global model's arrays and replies with its own. The mod sends the
    difference, coded as the server's `CompressedStrategy` orders. A server without one orders nothing, and then
    the mod does nothing.

    What error feedback has left lives in ``context.state`` and is committed only when the server says that it took
    the update, so a lost or refused update loses nothing and doubles nothing.

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
    feedback = ErrorFeedback(order.residual_decay, order.momentum_correction)
    memory = recall(context.state, ModelSpec.of(delta), feedback, order.acknowledged)
    velocity = feedback.accelerate(delta, memory.velocity)
    total = feedback.compensate(velocity, memory.residual)
    # Partition ids outlive node ids, which Flower draws anew for each run.
    client = context.node_config.get("partition-id", message.metadata.dst_node_id)
    rng = derive_rng(order.seed, order.round, str(client), "codec")
    codec = parse_codec(order.codec)
    frame = codec.encode(total, rng=rng, context=moment, previous=memory.frame, fresh=velocity).frame
    if feedback.decay or feedback.momentum or not codec.is_stateless:
        remember(
            context.state,
            server_round=order.round,
            frame=frame,
            total=total if feedback.decay else None,
            velocity=velocity if feedback.momentum else None,
        )
    reply.content[key] = frame_to_record(frame)
    return reply
