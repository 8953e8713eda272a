"""Where every byte of a frame goes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from fedcomp.wire import Frame


@dataclass(frozen=True, slots=True)
class ByteLedger:
    """Real bytes by part; the parts sum to the frame's length.

    Args:
        header: Magic, version, header, section table and checksum.
        kept: Tensors that are not quantized: small floats and integers.
        positions: Which coordinates travel.
        activity: What is told of rows and columns, so that positions or values take fewer bytes.
        tables: Steps and magnitudes.
        values: Quantization symbols.
        signs: Signs.
    """

    header: int
    kept: int
    positions: int
    activity: int
    tables: int
    values: int
    signs: int

    @property
    def total(self) -> int:
        """The frame's length."""
        return sum(asdict(self).values())

    @classmethod
    def of(cls, frame: Frame, num_bytes: int) -> ByteLedger:
        """Read the ledger off a parsed frame of `num_bytes` bytes."""
        size = dict.fromkeys(SectionKind, 0)
        for section in frame.sections:
            size[section.kind] += len(section.data)
        return cls(
            header=num_bytes - sum(size.values()),
            kept=size[SectionKind.KEPT_FLOATS] + size[SectionKind.KEPT_INTS],
            positions=size[SectionKind.POSITIONS] + size[SectionKind.COUNT],
            activity=size[SectionKind.ACTIVITY],
            tables=size[SectionKind.TABLES],
            values=size[SectionKind.VALUES],
            signs=size[SectionKind.SIGNS],
        )
