"""Arrays that many messages carry: written into shared memory once, copied out once by each worker."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from flwr.app import Array, ArrayRecord, RecordDict

from fedcomp.simulation.encoding import decode_records, encode_records
from fedcomp.simulation.packets import make_memory_file, read_and_close
from fedcomp.simulation.parcel import write_parcel

if TYPE_CHECKING:
    from collections.abc import Hashable

# One broadcast for training, and one for the evaluation that another thread or generator may have under way.
_NUM_KEPT = 2

Contents: TypeAlias = "dict[str, dict[str, tuple[str, tuple[int, ...], str, bytes]]]"


class Shared(NamedTuple):
    """Arrays in shared memory.

    Args:
        number: Never used for other arrays again.
        file: Descriptor of the file in memory.
        arrays: The same as objects: while these live, no other bytes have the identities of theirs.
    """

    number: int
    file: int
    arrays: Contents


class BroadcastSender:
    """Shares the arrays of messages.

    Messages that carry the very same bytes objects, as those of Flower's strategies do, share one file. Equal bytes
    in other objects are not looked for.

    Attributes:
        num_shared: How often arrays were written into shared memory.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Shared] = OrderedDict()
        self.num_shared = 0

    def share(self, content: RecordDict) -> Shared | None:
        """Return the shared arrays of a message's content, None if there are none."""
        contents = _contents(content)
        if not contents:
            return None
        key = _identity(contents)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        file = make_memory_file()
        write_parcel(file, encode_records(RecordDict({**content.array_records})))
        self.num_shared += 1
        self._kept[key] = Shared(self.num_shared, file, contents)
        if len(self._kept) > _NUM_KEPT:
            os.close(self._kept.popitem(last=False)[1].file)
        return self._kept[key]

    def close(self) -> None:
        """Let all files go."""
        while self._kept:
            os.close(self._kept.popitem()[1].file)


class BroadcastReceiver:
    """A worker's copies of shared arrays, read once however many of its clients get them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Contents] = OrderedDict()

    def records(self, number: int, file: int) -> dict[str, ArrayRecord]:
        """Return new records of shared arrays; the array bytes are the same objects each time. Closes `file`."""
        if number in self._kept:
            os.close(file)
            self._kept.move_to_end(number)
        else:
            self._kept[number] = _contents(decode_records(read_and_close(file)))
            if len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)
        return {
            key: ArrayRecord({name: Array(*fields) for name, fields in arrays.items()})
            for key, arrays in self._kept[number].items()
        }


def without_arrays(content: RecordDict) -> RecordDict:
    """Return the records that are not shared: small ones, and other for each client."""
    return RecordDict({key: record for key, record in content.items() if not isinstance(record, ArrayRecord)})


def _contents(content: RecordDict) -> Contents:
    return {
        key: {name: (a.dtype, a.shape, a.stype, a.data) for name, a in record.items()}
        for key, record in content.items()
        if isinstance(record, ArrayRecord)
    }


def _identity(contents: Contents) -> Hashable:
    return tuple(
        (key, tuple((name, dtype, shape, stype, id(data)) for name, (dtype, shape, stype, data) in arrays.items()))
        for key, arrays in contents.items()
    )
