"""Positions, values and signs as sections: in whichever way makes them smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.coding import channel_signs, contextual, cropping, grouping, signs
from fedcomp.codecs.coding.entropy import compress, decompress
from fedcomp.codecs.coding.positions import gaps_to_positions, positions_to_gaps
from fedcomp.codecs.coding.rans import INTERVALS
from fedcomp.codecs.stage import ArraySpec
from fedcomp.errors import FrameMalformed, InvalidValues, MissingContext, UsageError
from fedcomp.wire import Section, SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray

_FEWEST_LINES = 64
_FEWEST_POSITIONS = 64
_DENSEST_SCATTER = 4
"""Where more than one in so many symbols is no zero, coding all of them takes fewer bytes."""


def code_positions(positions: NDArray, cuts: Cuts, moved: NDArray | None = None) -> list[Section]:
    """Return the positions' sections: the smallest of all ways to write them.

    They are gaps, or gaps among the rows and columns that are alive with a section that tells which are, or, where both
    ends know how the model has moved, intervals of what is expected.

    Args:
        positions: int64, strictly increasing.
        cuts: Of the vector that they point into.
        moved: How far each coordinate of that vector has moved since a model that both ends hold: float32, with or
            without signs; None if they hold none. The decoder must be given the same, to the bit.
    """
    if not positions.size:
        return []
    plain = [Section(SectionKind.POSITIONS, *compress(positions_to_gaps(positions)))]
    if positions.size < _FEWEST_POSITIONS:
        return plain
    ways = [plain]
    if grouping.count_lines(cuts) >= _FEWEST_LINES and not (alive := cropping.find_alive(positions, cuts)).all():
        cropped = Section(SectionKind.POSITIONS, *compress(positions_to_gaps(cropping.crop(positions, cuts, alive))))
        ways.append([cropped, Section(SectionKind.ACTIVITY, *compress(cropping.pack_alive(alive)))])
    if moved is not None and contextual.can_code(positions.size, cuts):
        _check_moved(moved, cuts)
        data = contextual.encode_positions(positions, cuts, moved)
        ways.append([Section(SectionKind.POSITIONS, INTERVALS, data)])
    return min(ways, key=_num_bytes)


def decode_positions(
    sections: Mapping[SectionKind, Sequence[Section]], count: int, cuts: Cuts, moved: NDArray | None = None
) -> NDArray:
    """Invert `code_positions`: int64, strictly increasing, below ``cuts.size``.

    Raises:
        MissingContext: They were coded with the help of `moved`, which is None.
        FrameError: The sections do not hold `count` such positions.
    """
    coded = sections[SectionKind.POSITIONS]
    if [section.coder for section in coded] == [INTERVALS]:
        if SectionKind.ACTIVITY in sections:
            raise FrameMalformed("positions as intervals, with rows and columns that are left out")
        if not contextual.can_code(count, cuts):
            raise FrameMalformed(f"{count} of {cuts.size} positions as intervals: no encoder writes those")
        if moved is None:
            raise MissingContext("positions were coded by how the model has moved; the receiver was not given that")
        _check_moved(moved, cuts)
        return contextual.decode_positions(coded[0].data, count, cuts, moved)
    (gaps,) = _decompress(coded, [ArraySpec("uint32", count)])
    if SectionKind.ACTIVITY not in sections:
        return gaps_to_positions(gaps, cuts.size)
    packed = _decompress(sections[SectionKind.ACTIVITY], [ArraySpec("uint8", cropping.packed_size(cuts))])
    alive = cropping.unpack_alive(packed[0], cuts)
    return cropping.uncrop(gaps_to_positions(gaps, cropping.cropped_size(cuts, alive)), cuts, alive)


def code_signs(packed: NDArray, cuts: Cuts) -> Section:
    """Return the section of signs, a bit a value.

    Args:
        packed: As `numpy.packbits` gives them, 1 is negative.
        cuts: Where channels begin among the values; ``cuts.size`` is the number of signs, above 0.
    """
    plain = Section(SectionKind.SIGNS, *compress(packed))
    if cuts.size > channel_signs.MOST_SIGNS:
        return plain
    by_channel = Section(SectionKind.SIGNS, INTERVALS, channel_signs.encode_signs(packed, cuts))
    return min(plain, by_channel, key=lambda section: len(section.data))


def decode_signs(section: Section, cuts: Cuts) -> NDArray:
    """Invert `code_signs`; what pads the last byte may be anything if the section is not by channel.

    Raises:
        FrameError: The section does not hold ``cuts.size`` signs.
    """
    if section.coder != INTERVALS:
        return decompress(section.coder, section.data, ArraySpec("uint8", -(-cuts.size // 8)))
    if cuts.size > channel_signs.MOST_SIGNS:
        raise FrameMalformed(f"{cuts.size} signs as intervals, at most {channel_signs.MOST_SIGNS} are allowed")
    return channel_signs.decode_signs(section.data, cuts)


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


def _check_moved(moved: NDArray, cuts: Cuts) -> None:
    if moved.dtype != "float32" or moved.shape != (cuts.size,):
        raise UsageError(f"movement is {moved.dtype} of shape {moved.shape}, expected {cuts.size} float32")


def _decompress(sections: Sequence[Section], expected: Sequence[ArraySpec]) -> list[NDArray]:
    if len(sections) != len(expected):
        raise FrameMalformed(f"{len(sections)} sections of one kind, expected {len(expected)}")
    return [decompress(s.coder, s.data, spec) for s, spec in zip(sections, expected, strict=True)]


def _num_bytes(sections: list[Section]) -> int:
    # A section's entry in the header takes four bytes or more.
    return sum(len(section.data) + 4 for section in sections)
