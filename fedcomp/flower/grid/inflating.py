"""Flower's objects as strangers send them: a reply that can not be made of them costs its sender, and not the run.

Flower's deployed Grid makes replies of whatever objects clients have uploaded. Where that fails, `pull_messages`
raises, and the other replies of the request are gone with it; and an Array may name one chunk of bytes any number of
times. There is no public way in between, so for the time of a request one function of Flower's is another.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import threading
from logging import WARNING
from typing import TYPE_CHECKING

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.logger import log
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import get_object_head_values_from_object_content

from fedcomp.errors import FrameTooLarge
from fedcomp.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from flwr.serverapp import Grid

    Inflate: TypeAlias = Callable[[str, dict[str, bytes]], object]

_HTTP_GRID = "flwr.superlink.grid.http_grid"
_INFLATE = "inflate_object_from_contents"
_ARRAY = "Array"
_LOCK = threading.Lock()
_limits: list[int] = []
"""Of those who are inside."""


@contextlib.contextmanager
def inflating_carefully(max_reply_bytes: int) -> Iterator[None]:
    """Let Flower's deployed Grid give an error in the place of a reply that it can not make.

    The error answers no message: that its reply is gone the SuperLink says itself, when it is asked again.

    Args:
        max_reply_bytes: Most bytes that the arrays of one reply may have once they are put together; of several at a
            time the largest counts.
    """
    if (http_grid := sys.modules.get(_HTTP_GRID)) is None:
        yield  # there is no such Grid, and loading it takes longer than all else of fedcomp
        return
    with _LOCK:
        if not _limits:
            setattr(http_grid, _INFLATE, functools.partial(_inflate_reply, getattr(http_grid, _INFLATE)))
        _limits.append(max_reply_bytes)
    try:
        yield
    finally:
        with _LOCK:
            _limits.remove(max_reply_bytes)
            if not _limits:
                setattr(http_grid, _INFLATE, getattr(http_grid, _INFLATE).args[0])


def is_deployed(grid: Grid) -> bool:
    """Tell whether a Grid is the one that Flower gives a deployed ServerApp."""
    return (http_grid := sys.modules.get(_HTTP_GRID)) is not None and isinstance(grid, http_grid.HttpGrid)


def _inflate_reply(inflate: Inflate, object_id: str, contents: dict[str, bytes]) -> Message:
    try:
        _check_arrays(contents, max(_limits))
        reply = inflate(object_id, contents)
        if isinstance(reply, Message) and (reply.has_content() or reply.has_error()):
            return reply
        raise TypeError(f"a {type(reply).__name__} with neither content nor error, expected a Message")
    except Exception as error:  # whatever a stranger's bytes lead Flower to
        text = f"a reply can not be read: {type(error).__name__}: {error}"
        log(WARNING, "%s", printable(text))
        return _unreadable(text)


def _check_arrays(contents: dict[str, bytes], max_bytes: int) -> None:
    """Raise `FrameTooLarge` before arrays are put together that are larger than any honest reply."""
    total = 0
    for content in contents.values():
        kind, children, body_bytes = get_object_head_values_from_object_content(content)
        if kind == _ARRAY:
            chunks = json.loads(content[len(content) - body_bytes :])["arraychunk_ids"]
            total += sum(len(contents[children[chunk]]) for chunk in chunks)
    if total > max_bytes:
        raise FrameTooLarge(f"arrays have {total} bytes, at most {max_bytes} are allowed")


def _unreadable(reason: str) -> Message:
    metadata = Metadata(
        run_id=0,
        message_id="",
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=SUPERLINK_NODE_ID,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=0.0,
        message_type=SYSTEM_MESSAGE_TYPE,
    )
    return make_message(metadata=metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, printable(reason)))
