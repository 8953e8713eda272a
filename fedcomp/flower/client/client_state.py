"""A client's ``context.state`` in files of its own machine: it outlives the client's process, and a server's resume.

Flower keeps the state in the SuperNode's memory and for one run. A client that is killed there, or whose server goes
on in a new run, would begin with nothing: error feedback would be lost, and a whole model sent again.

A resumed server may do a round once more. What a client remembers of the attempt before never happened then, so the
states after the last two rounds are kept, and a round begins with the newest one that is of an earlier round.
"""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import xxhash
from flwr.app import RecordDict
from google.protobuf.message import DecodeError

from fedcomp.errors import CheckpointError
from fedcomp.files import write_atomically
from fedcomp.flower.messages.encoding import decode_records, encode_records
from fedcomp.flower.messages.lineage import without_own
from fedcomp.flower.messages.order import ORDER_KEY, CompressionOrder
from fedcomp.flower.messages.order_record import read_order
from fedcomp.parcel import join_parcel, split_parcel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flwr.app import Context, Message
    from flwr.clientapp.typing import ClientAppCallable, Mod

STATE_DIR_KEY = "state-dir"
"""A key of a client's node configuration: the folder for its state, its own alone; without it nothing is kept."""

_KEPT = 2
_SUFFIX = ".state"
_CHECKSUM_BYTES = 8
_DAMAGED = (
    CheckpointError,
    DecodeError,
    LookupError,
    OverflowError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
)
"""What reading a state raises that is not one: its checksum needs no key, so a right one says little."""


def keep_state_mod() -> Mod:
    """Make the mod that keeps a client's state in the folder that its node configuration names.

    Put it outside of `compression_mod`: ``ClientApp(mods=[keep_state_mod(), compression_mod()])``. Rounds that a
    `CompressedStrategy` ordered are kept, one writer at a time. A file that is damaged counts as none. What the app
    itself keeps in ``context.state`` stays there, too: messages that evaluate read and write it where Flower has it.
    """

    def keep(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        folder = context.node_config.get(STATE_DIR_KEY)
        if not folder or ORDER_KEY not in message.content:
            return call_next(message, context)
        files, order = StateFolder(Path(str(folder))), read_order(CompressionOrder, message.content[ORDER_KEY])
        with files.locked():
            kept = files.read(_node(context), order.lineage, before=order.round)
            context.state = RecordDict({**kept, **without_own(context.state)})
            reply = call_next(message, context)
            if not reply.has_error():
                files.write(_node(context), order.lineage, order.round, context.state)
        # The rest would travel to the SuperNode and back for nothing.
        context.state = without_own(context.state)
        return reply

    return keep


class _Title(NamedTuple):
    """What a file is of: the client, the training and the round."""

    node: str
    lineage: str
    round: int

    def pack(self) -> bytes:
        return json.dumps(self).encode()

    @classmethod
    def unpack(cls, title: bytes) -> _Title:
        return cls(*json.loads(title))


class StateFolder:
    """The states of one client after its last rounds.

    Args:
        path: The folder; it is made, for its owner alone, when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process is at it: one that was left behind may still be writing."""
        import fcntl  # not on Windows, where all else of fedcomp.flower works

        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, node: str, lineage: str, *, before: int) -> RecordDict:
        """Return the newest state of a training that is of a round earlier than `before`; an empty one if none is.

        Args:
            node: Flower's id of this client: under another one the server knows nothing of what it did.
            lineage: The training.
            before: A server round.
        """
        for path in reversed(self._files()):
            try:
                title, records = _unpack(path.read_bytes())
                if (title.node, title.lineage) == (node, lineage) and title.round < before:
                    return decode_records(records)
            except _DAMAGED:
                continue
        return RecordDict()

    def write(self, node: str, lineage: str, server_round: int, state: RecordDict) -> None:
        """Keep the state after a round; what is of the same round or a later one never happened, and goes."""
        title = _Title(node, lineage, server_round)
        for partial in self.path.glob(f".*{_SUFFIX}.*"):
            partial.unlink()  # a kill left it, and no other round has its name
        path = self.path / f"{server_round:08d}{_SUFFIX}"
        write_atomically(path, _pack(title, encode_records(state)))
        others = [other for other in self._files() if other != path]
        earlier = [other for other in others if other.name < path.name]
        for other in {*others} - {*earlier[-(_KEPT - 1) :]}:
            other.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.path.glob(f"*{_SUFFIX}"))


def _node(context: Context) -> str:
    return str(context.node_id)


def _pack(title: _Title, records: list[bytes]) -> bytes:
    parcel = join_parcel([title.pack(), *records])
    return xxhash.xxh3_64_digest(parcel) + parcel


def _unpack(content: bytes) -> tuple[_Title, list[bytes]]:
    checksum, parcel = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if xxhash.xxh3_64_digest(parcel) != checksum:
        raise CheckpointError("a client's state is damaged")
    title, *records = split_parcel(parcel)
    return _Title.unpack(title), records
