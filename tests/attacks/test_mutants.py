"""Every golden frame, damaged in every place, with a checksum that is right again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import fedcomp
from fedcomp.wire import FrameLimits, Section, SectionKind, read_frame, write_frame
from tests.attacks.check import outcome_of, sealed
from tests.golden.make import KNOWING, golden_frames

FOLDER = Path(__file__).parents[1] / "golden" / "v2"
SPECS = {name: fedcomp.ModelSpec.of(delta) for name, _, delta, _ in golden_frames()}
CONTEXTS = {name: context for name, _, _, context in golden_frames() if name in KNOWING}
golden = pytest.mark.parametrize("name", SPECS)


def is_refused(name, frame):
    """Decode; True if refused, False if it gave finite values of the right shapes. Anything else fails the test."""
    return outcome_of(frame, SPECS[name], context=CONTEXTS.get(name)) != "decoded"


@golden
def test_truncated(name):
    content = (FOLDER / f"{name}.fcz").read_bytes()[:-8]
    assert all(is_refused(name, sealed(content[:end])) for end in range(len(content)))
    assert all(is_refused(name, content[:end]) for end in range(0, len(content), 7))


@golden
def test_bit_flips(name):
    content = bytearray((FOLDER / f"{name}.fcz").read_bytes()[:-8])
    for position in [*range(min(len(content), 1000)), *range(1000, len(content), 7)]:
        for bit in range(8) if position < 80 else [position % 8]:
            content[position] ^= 1 << bit
            is_refused(name, sealed(bytes(content)))
            content[position] ^= 1 << bit


@golden
def test_sections_replaced(name):
    frame = read_frame((FOLDER / f"{name}.fcz").read_bytes(), FrameLimits())
    rng = np.random.default_rng(0)
    for i, section in enumerate(frame.sections):
        contents = [b"", bytes(len(section.data)), rng.bytes(len(section.data)), section.data * 2, section.data + b"x"]
        for coder in range(5):
            for content in contents:
                sections = list(frame.sections)
                sections[i] = Section(section.kind, coder, content)
                is_refused(name, write_frame(dataclasses.replace(frame, sections=tuple(sections))))
        without = tuple(s for s in frame.sections if s is not section)
        is_optional = section.kind in (
            SectionKind.ACTIVITY,
            SectionKind.SIGNS,
        )  # without it, others mean something else
        assert is_optional | is_refused(name, write_frame(dataclasses.replace(frame, sections=without)))
