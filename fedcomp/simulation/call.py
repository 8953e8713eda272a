"""One call of the ClientApp, whatever comes of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.clientapp import ClientApp

_log = logging.getLogger(__name__)


def call_client(client_app: ClientApp, message: Message, context: Context) -> Message:
    """Return the app's reply, or an error reply with the reason if it raises or answers with something else."""
    try:
        reply = client_app(message, context)
        if not isinstance(reply, Message):
            raise TypeError(f"answered with {type(reply).__name__}, not a Message")
    except BaseException as error:  # a client's SystemExit is the client's failure, not the simulation's
        return raised(error, message)
    return reply


def raised(error: BaseException, message: Message) -> Message:
    """Return the error reply for what a client raised."""
    _log.debug("client %d raised", message.metadata.dst_node_id, exc_info=error)
    return error_reply(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}: {error}")


def error_reply(message: Message, code: int, reason: str) -> Message:
    """Return a reply that carries an error."""
    # A file name that is no UTF-8 has surrogates, which no message can carry.
    return Message(Error(code, reason.encode(errors="backslashreplace").decode()), reply_to=message)


def no_answer_within(message: Message, seconds: float) -> Message:
    """Return the error reply of a client that took too long."""
    return error_reply(message, ErrorCode.NODE_UNAVAILABLE, f"no answer within {seconds:.3g} s")
