"""The client's side: a Flower mod that makes the model of a message and turns the app's reply into an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import Message, MessageType, RecordDict

from fedcomp.codecs import NO_CODEC, CodingContext, ErrorFeedback, decode, parse_codec
from fedcomp.errors import FedcompError, FrameError, UsageError
from fedcomp.flower.client.memory import recall, remember
from fedcomp.flower.client.receiving import Receiver
from fedcomp.flower.messages.authentication import AssociatedData, FrameKey, digest_model, seal, size_of_seal
from fedcomp.flower.messages.lineage import carry_own, forget_other_lineages, sign_with
from fedcomp.flower.messages.model_order import to_error
from fedcomp.flower.messages.order import ORDER_KEY, CompressionOrder
from fedcomp.flower.messages.order_record import read_order
from fedcomp.flower.messages.records import frame_to_record, named_as, only_array_record, to_model
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec, fingerprint_model, subtract_models
from fedcomp.wire import OWN_FRAMES, FrameLimits

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.clientapp.typing import ClientAppCallable, Mod

    from fedcomp.flower.client.receiving import InitialModel
    from fedcomp.types import Model


BUDGET_KEY = "uplink-budget-bytes"
"""A key of a client's node configuration: the most bytes of an update that its own link bears."""
FRAME_KEY = "frame-key"
"""Another one: the file of this client's `FrameKey`, for servers that ask for sealed frames."""


def compression_mod(
    *, initial: InitialModel | None = None, limits: FrameLimits | None = None, max_model_bytes: int = 1 << 32
) -> Mod:
    """Make the mod that compresses what a ClientApp receives for training, and what it replies.

    The app stays as it is: it receives a model's arrays and replies with its own. The mod makes the model of what
    the server's `CompressedStrategy` sends, and sends back the difference, coded as that orders. A server without one
    orders nothing, and then the mod does nothing.

    A reply's tensors have the names of the model's, or are numbered in their order, as a NumPyClient's are; they may be
    floats of any width. What travels has the model's names and kinds.

    The model that the server knows this client to hold, and what error feedback has left, live in ``context.state``.
    Neither goes before the server says that it took what followed it, so a lost update loses nothing and doubles
    nothing; or that it refused it for its values, which are forgotten then. A client that has lost its state answers
    with an error, and is sent a whole model next time.

    Args:
        initial: Builds the run's initial model, as ``initial(message, context)``: then the server need not send it.
            If it is another one than the server's, bit for bit, the server notices and sends its own.
        limits: Caps for what the server may send.
        max_model_bytes: Largest model that is made because the server says so, by the bytes of its tensors. To make it
            takes more for a moment: three times that of a float32 model as a rule, and up to 40 bytes a parameter, of
            whatever type, if a server chooses its frame for that.

    Returns:
        A mod for ``ClientApp(mods=[compression_mod()])``. Put it first, which is outermost: the mods behind it see the
        model that the app trains from, and its own reply before it is coded. Flower's privacy mods must stand there, as
        in ``[compression_mod(), LocalDpMod(...)]``: then what is coded, and what error feedback keeps, is clipped and
        has its noise already. In the other order they are given a frame, and answer with an error.
    """
    receiver = Receiver(initial, limits or FrameLimits(), max_model_bytes)

    def compress(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if ORDER_KEY not in message.content:
            return call_next(message, context)
        order = read_order(CompressionOrder, message.content[ORDER_KEY])
        del message.content[ORDER_KEY]
        before = RecordDict({**context.state})
        forget_other_lineages(context.state, order.lineage)
        try:
            at_hand = receiver.receive(message, context, order)
            references = receiver.references(order.references, at_hand, message, context)
        except FedcompError as error:
            context.state = before  # a message that is refused makes nobody forget
            if not isinstance(error, FrameError):
                raise
            return Message(to_error(error), reply_to=message)
        reply = _compress_reply(message, context, call_next, order, references)
        sign_with(context.state, order.lineage)
        return reply

    return compress


def _compress_reply(
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
    order: CompressionOrder,
    references: tuple[Model, ...],
) -> Message:
    if order.codec == NO_CODEC or not message.metadata.message_type.startswith(MessageType.TRAIN):
        return _call(call_next, message, context)

    base = to_model(only_array_record(message.content)[1])
    moment = CodingContext(
        run=order.lineage,
        sender=str(message.metadata.dst_node_id),
        round=order.round,
        base=fingerprint_model(base),
        model=base,
        references=references,
    )
    secret = _frame_key(context) if order.is_authenticated else None
    reply = _call(call_next, message, context)
    if reply.has_error():
        return reply

    key, local = only_array_record(reply.content)
    delta = subtract_models(named_as(base, to_model(local)), base)
    feedback = ErrorFeedback(order.residual_decay, order.momentum_correction)
    memory = recall(
        context.state, ModelSpec.of(delta), feedback, acknowledged=order.acknowledged, refused=order.refused
    )
    if order.zeros_stay:
        memory = memory.without_pruned(base)
    velocity = feedback.accelerate(delta, memory.velocity)
    total = feedback.compensate(velocity, memory.residual)
    # Partition ids outlive node ids, which Flower draws anew for each run.
    client = context.node_config.get("partition-id", message.metadata.dst_node_id)
    rng = derive_rng(order.seed, order.round, str(client), "codec")
    codec = parse_codec(order.codec)
    frame = codec.encode(
        total,
        rng=rng,
        context=moment,
        previous=memory.frame,
        fresh=velocity,
        budget=_budget(order, context, size_of_seal(secret) if secret else 0),
    ).frame
    is_needed = feedback.decay or feedback.momentum
    if is_needed or not codec.is_stateless:
        remember(
            context.state,
            server_round=order.round,
            frame=frame,
            total=total if feedback.decay else None,
            velocity=velocity if feedback.momentum else None,
            received=(
                decode(frame, ModelSpec.of(delta), context=moment, limits=OWN_FRAMES)
                if is_needed and references
                else None
            ),
        )
    if secret:
        associated = AssociatedData(message.metadata.dst_node_id, order, digest_model(base), reply.content)
        frame = seal(frame, secret, associated)
    reply.content[key] = frame_to_record(frame)
    return reply


def _call(call_next: ClientAppCallable, message: Message, context: Context) -> Message:
    """Let the app answer; one that sets ``context.state`` anew drops nothing but its own."""
    state = context.state
    reply = call_next(message, context)
    if context.state is not state:
        carry_own(state, context.state)
    return reply


def _frame_key(context: Context) -> FrameKey:
    if not (path := context.node_config.get(FRAME_KEY)):
        raise UsageError(f"the server asks for sealed frames, but this client's node configuration has no {FRAME_KEY}")
    return FrameKey.read(str(path))


def _budget(order: CompressionOrder, context: Context, size_of_seal: int) -> int | None:
    """Return the most bytes of a frame: of what the server grants and what this client's own link bears the less."""
    own = context.node_config.get(BUDGET_KEY, 0)
    limits = [limit for limit in (order.budget, own) if isinstance(limit, int) and limit > 0]
    if not limits:
        return None
    if min(limits) <= size_of_seal:
        raise UsageError(f"{min(limits)} bytes are too small a budget: the seal behind a frame has {size_of_seal}")
    return min(limits) - size_of_seal
