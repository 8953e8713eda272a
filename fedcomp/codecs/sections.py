"""Positions and values as sections: with what is told of rows and columns first, where that makes them smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs import cropping, grouping, signs
from fedcomp.codecs.entropy import compress, decompress
from fedcomp.codecs.positions import gaps_to_positions, positions_to_gaps
from fedcomp.codecs.stage import ArraySpec
from fedcomp.errors import FrameMalformed, InvalidValues
from fedcomp.wire import Section, SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray

_FEWEST_LINES = 64
_FEWEST_POSITIONS = 64
_DENSEST_SCATTER = 4
"""Where more than one in so many symbols is no zero, coding all of them takes fewer bytes."""


def code_positions(positions: NDArray, cuts: Cuts) -> list[Section]:
    """Return the positions' section, and the one that tells which rows and columns are alive if both are smaller.

    Args:
        positions: int64, strictly increasing.
        cuts: Of the vector that they point into.
    """
    if not positions.size:
        return []
    plain = [Section(SectionKind.POSITIONS, *compress(positions_to_gaps(positions)))]
    if positions.size < _FEWEST_POSITIONS or grouping.count_lines(cuts) < _FEWEST_LINES:
        return plain
    alive = cropping.find_alive(positions, cuts)
    if alive.all():
        return plain
    cropped = [
        Section(SectionKind.POSITIONS, *compress(positions_to_gaps(cropping.crop(positions, cuts, alive)))),
        Section(SectionKind.ACTIVITY, *compress(cropping.pack_alive(alive))),
    ]
    return min(plain, cropped, key=_num_bytes)


def decode_positions(sections: Mapping[SectionKind, Sequence[Section]], count: int, cuts: Cuts) -> NDArray:
    """Invert `code_positions`: int64, strictly increasing, below ``cuts.size``.

    Raises:
        FrameError: The sections do not hold `count` such positions.
    """
    gaps = _decompress(sections[SectionKind.POSITIONS], [ArraySpec("uint32", count)])
    if SectionKind.ACTIVITY not in sections:
        return gaps_to_positions(gaps[0], cuts.size)
    packed = _decompress(sections[SectionKind.ACTIVITY], [ArraySpec("uint8", cropping.packed_size(cuts))])
    alive = cropping.unpack_alive(packed[0], cuts)
    return cropping.uncrop(gaps_to_positions(gaps[0], cropping.cropped_size(cuts, alive)), cuts, alive)


def code_values(values: NDArray | None, cuts: Cuts | None, centre: int | None) -> list[Section]:
    """Return the values' sections.

    Symbols of whole matrices may be grouped: then there is a section of classes and one of symbols for each group.
    Signs may have a section of their own.

    Args:
        values: Symbols or floats; None or empty for none.
        cuts: Where tensors and channels are among them; None if they are a selection.
        centre: The symbol that means zero; None if none does.
    """
    if values is None or not values.size:
        return []
    if cuts is None:
        plain = [Section(SectionKind.VALUES, *compress(values))]
        return plain if centre is None else min(plain, _code_split(values, centre), key=_num_bytes)
    candidates = [_code_whole(values, cuts, centre)]
    if centre is not None and _DENSEST_SCATTER * np.count_nonzero(values != centre) < values.size:
        candidates.append(_code_scattered(values, centre))
    return min(candidates, key=_num_bytes)


def decode_values(
    sections: Mapping[SectionKind, Sequence[Section]], expected: ArraySpec, cuts: Cuts | None, centre: int | None
) -> NDArray:
    """Invert `code_values`.

    Raises:
        FrameError: The sections do not hold what is expected.
    """
    if SectionKind.COUNT in sections and centre is not None:
        return _decode_scattered(sections, expected, centre)
    if SectionKind.ACTIVITY in sections and cuts is not None:
        lines = ArraySpec("uint8", grouping.count_lines(cuts))
        (classes,) = _decompress(sections[SectionKind.ACTIVITY], [lines])
        sizes = grouping.group_sizes(cuts, classes)
        groups = _decompress(sections[SectionKind.VALUES], [ArraySpec(expected.dtype, size) for size in sizes])
        values = grouping.ungroup(groups, cuts, classes)
    else:
        (values,) = _decompress(sections[SectionKind.VALUES], [expected])
    if SectionKind.SIGNS not in sections or centre is None:
        return values
    (packed,) = _decompress(sections[SectionKind.SIGNS], [ArraySpec("uint8", signs.packed_size(values))])
    return signs.join_signs(values, packed, centre)


def _code_whole(values: NDArray, cuts: Cuts, centre: int | None) -> list[Section]:
    if values.dtype.kind == "u" and grouping.count_lines(cuts) >= _FEWEST_LINES:
        classes = grouping.classify_lines(values, cuts, centre)
        if grouping.is_worth_it(values, cuts, classes):
            return _code_grouped(values, cuts, classes, centre)
    return [Section(SectionKind.VALUES, *compress(values))]


def _code_scattered(symbols: NDArray, centre: int) -> list[Section]:
    """Code where the symbols are that do not mean zero, and these alone."""
    magnitudes, packed = signs.split_signs(symbols, centre)
    positions = np.flatnonzero(magnitudes)
    if not positions.size:
        return [Section(SectionKind.COUNT, *compress(np.zeros(1, np.uint32)))]
    return [
        Section(SectionKind.COUNT, *compress(np.array([positions.size], np.uint32))),
        Section(SectionKind.POSITIONS, *compress(positions_to_gaps(positions))),
        Section(SectionKind.SIGNS, *compress(packed)),
        Section(SectionKind.VALUES, *compress(magnitudes[positions] - magnitudes.dtype.type(1))),
    ]


def _decode_scattered(sections: Mapping[SectionKind, Sequence[Section]], expected: ArraySpec, centre: int) -> NDArray:
    (counted,) = _decompress(sections[SectionKind.COUNT], [ArraySpec("uint32", 1)])
    count = int(counted[0])
    if count > expected.length:
        raise FrameMalformed(f"{count} of {expected.length} symbols do not mean zero")
    if (count > 0) != (SectionKind.POSITIONS in sections):
        raise FrameMalformed(f"{count} symbols do not mean zero, and their sections are there or not")
    if not count:
        return np.full(expected.length, centre, expected.dtype)
    magnitudes = np.zeros(expected.length, expected.dtype)
    (gaps,) = _decompress(sections[SectionKind.POSITIONS], [ArraySpec("uint32", count)])
    (above_one,) = _decompress(sections[SectionKind.VALUES], [ArraySpec(expected.dtype, count)])
    if above_one.max() == np.iinfo(above_one.dtype).max:
        raise InvalidValues("a magnitude is beyond the symbols' range")
    magnitudes[gaps_to_positions(gaps, expected.length)] = above_one + above_one.dtype.type(1)
    (packed,) = _decompress(sections[SectionKind.SIGNS], [ArraySpec("uint8", -(-count // 8))])
    return signs.join_signs(magnitudes, packed, centre)


def _code_split(symbols: NDArray, centre: int) -> list[Section]:
    magnitudes, packed = signs.split_signs(symbols, centre)
    return [Section(SectionKind.VALUES, *compress(magnitudes)), Section(SectionKind.SIGNS, *compress(packed))]


def _code_grouped(symbols: NDArray, cuts: Cuts, classes: NDArray, centre: int | None) -> list[Section]:
    sections = [Section(SectionKind.ACTIVITY, *compress(classes))]
    if centre is not None:
        symbols, packed = signs.split_signs(symbols, centre)
        sections.append(Section(SectionKind.SIGNS, *compress(packed)))
    groups = grouping.group(symbols, cuts, classes)
    return sections + [Section(SectionKind.VALUES, *compress(group)) for group in groups]


def _decompress(sections: Sequence[Section], expected: Sequence[ArraySpec]) -> list[NDArray]:
    if len(sections) != len(expected):
        raise FrameMalformed(f"{len(sections)} sections of one kind, expected {len(expected)}")
    return [decompress(s.coder, s.data, spec) for s, spec in zip(sections, expected, strict=True)]


def _num_bytes(sections: list[Section]) -> int:
    # A section's entry in the header takes four bytes or more.
    return sum(len(section.data) + 4 for section in sections)
