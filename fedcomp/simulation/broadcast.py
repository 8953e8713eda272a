"""Arrays that many messages carry: written into shared memory once, copied out once by each worker."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from flwr.app import ArrayRecord, RecordDict

from fedcomp.flower.messages.encoding import copy_arrays, decode_records, encode_records
from fedcomp.parcel import write_parcel
from fedcomp.simulation.packets import make_memory_file, read_and_close

if TYPE_CHECKING:
    from collections.abc import Hashable

# One broadcast for training, and one for the evaluation that another thread or generator may have under way.
_NUM_KEPT = 2


class Shared(NamedTuple):
    """Arrays in shared memory.

    Args:
        number: Never used for other arrays again.
        file: Descriptor of the file in memory.
        array_bytes: While these live, no other bytes have the identities of theirs.
    """

    number: int
    file: int
    array_bytes: list[bytes]


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

    def share(self, records: dict[str, ArrayRecord]) -> Shared:
        """Return arrays as they are in shared memory."""
        key = _identity(records)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        parts = encode_records(RecordDict({**records}))
        file = make_memory_file()
        write_parcel(file, parts)
        self.num_shared += 1
        self._kept[key] = Shared(
            self.num_shared, file, [a.data for record in records.values() for a in record.values()]
        )
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
        self._kept: OrderedDict[int, dict[str, ArrayRecord]] = OrderedDict()

    def records(self, number: int, file: int) -> dict[str, ArrayRecord]:
        """Return records of shared arrays, the caller's own but for the array bytes. Closes `file`."""
        if number in self._kept:
            os.close(file)
            self._kept.move_to_end(number)
        else:
            self._kept[number] = only_arrays(decode_records(read_and_close(file)))
            if len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)
        return {key: copy_arrays(record) for key, record in self._kept[number].items()}


def only_arrays(records: RecordDict) -> dict[str, ArrayRecord]:
    """Return the records that are shared."""
    return {key: record for key, record in records.items() if isinstance(record, ArrayRecord)}


def _identity(records: dict[str, ArrayRecord]) -> Hashable:
    return tuple(
        (key, tuple((name, a.dtype, a.shape, a.stype, id(a.data)) for name, a in record.items()))
        for key, record in records.items()
    )
