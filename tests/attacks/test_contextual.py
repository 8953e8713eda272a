"""Positions and signs as intervals, from senders that lie: refused, or what any honest sender might have sent."""

import random

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs.coding import channel_signs, contextual
from fedcomp.codecs.coding.rans import INTERVALS
from fedcomp.codecs.coding.sections import decode_positions, decode_signs
from fedcomp.codecs.groups import Cuts
from fedcomp.codecs.layout import layout_of
from fedcomp.errors import FrameError
from fedcomp.wire import Section, SectionKind
from tests.attacks.check import CAP, CAP_PER_PARAMETER, Memory, outcome_of
from tests.attacks.forge import frame_of, stage
from tests.attacks.mutate import mutate_bytes

SPEC = fedcomp.ModelSpec.of({"w": np.zeros((70, 90), np.float32), "b": np.zeros(90, np.float32)})
CUTS = layout_of(SPEC, 0).coded.cuts
MOVED = np.random.default_rng(0).standard_cauchy(CUTS.size).astype(np.float32)
MOVED[np.abs(MOVED) < 1] = 0
POSITIONS = np.flatnonzero(np.abs(MOVED) > np.quantile(np.abs(MOVED), 0.96))
DATA = contextual.encode_positions(POSITIONS, CUTS, MOVED)
CHANNELS = CUTS.at(POSITIONS)
SIGNS = channel_signs.encode_signs(np.packbits(MOVED[POSITIONS] < 0), CHANNELS)


def positions_of(data, count=POSITIONS.size, cuts=CUTS, moved=MOVED):
    """Decode; return the positions, which must be such, or None if they were refused."""
    try:
        sections = {SectionKind.POSITIONS: [Section(SectionKind.POSITIONS, INTERVALS, data)]}
        positions = decode_positions(sections, count, cuts, moved)
    except FrameError:
        return None
    assert positions.dtype == np.int64
    assert positions.size == count
    assert (np.diff(positions) > 0).all()
    assert not count or 0 <= positions[0] <= positions[-1] < cuts.size
    return positions


def signs_of(data, cuts=CHANNELS):
    """Decode; return the signs, which must be as many as asked for, or None if they were refused."""
    try:
        packed = decode_signs(Section(SectionKind.SIGNS, INTERVALS, data), cuts)
    except FrameError:
        return None
    assert packed.size == -(-cuts.size // 8)
    assert not np.unpackbits(packed)[cuts.size :].any()
    return packed


both = pytest.mark.parametrize(
    ("decode", "honest"), [(positions_of, DATA), (signs_of, SIGNS)], ids=["positions", "signs"]
)


@both
def test_honest_data_decode(decode, honest):
    assert decode(honest) is not None


@both
def test_every_cut_is_refused(decode, honest):
    assert all(decode(honest[:end]) is None for end in range(len(honest)))


@both
@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"\xff\xff", bytes(64)])
def test_bytes_before_and_behind_are_refused(decode, honest, extra):
    assert decode(honest + extra) is None
    assert decode(extra + honest) is None
    assert decode(honest + honest) is None


@both
def test_long_data_take_no_memory(decode, honest):
    """Word by word they would take 20 times what was sent."""
    long = honest + bytes(16 << 20)
    memory = Memory()
    assert decode(long) is None
    assert memory.taken() < len(long)


@both
def test_bit_flips(decode, honest):
    """One in a few thousand may pass: what is coded in bits that an encoder has left over."""
    passed = 0
    for bit in range(8 * len(honest)):
        damaged = bytearray(honest)
        damaged[bit // 8] ^= 1 << bit % 8
        passed += decode(bytes(damaged)) is not None
    assert passed <= 8 * len(honest) // 100


@both
def test_mutants(decode, honest):
    rng = random.Random(0)
    for _ in range(400):
        decode(mutate_bytes(honest, rng.randbytes(len(honest)), rng))


@pytest.mark.parametrize("word", [b"\0\0", b"\xff\xff", b"\x01\x00", b"\x00\x80"])
@pytest.mark.parametrize("state", [1 << 44, (1 << 60) - 1, (1 << 44) + 1])
def test_endless_words(word, state):
    """The least and the most likely all along: as many words as are asked for."""
    data = state.to_bytes(8, "little")
    for num_words in (0, 1, 100, 5000):
        positions_of(data + word * num_words)
        signs_of(data + word * num_words)


@pytest.mark.parametrize("count", [1, 63, 64, CUTS.size // 16, CUTS.size // 16 + 1, CUTS.size, 2**32, 2**63])
def test_counts(count):
    assert positions_of(DATA, count) is None


def test_the_other_coder_s_data():
    assert positions_of(SIGNS) is None
    assert signs_of(DATA) is None


@pytest.mark.parametrize("shape", [(1000, 1000), (1_000_000,), (10, 100_000), (100_000, 10)], ids=str)
def test_memory_stays_under_the_cap(shape):
    cuts = layout_of(fedcomp.ModelSpec.of({"w": np.zeros(shape, np.float32)}), 0).coded.cuts
    moved = np.zeros(cuts.size, np.float32)
    moved[::3] = 1
    memory = Memory()
    for data in (DATA, (1 << 44).to_bytes(8, "little") + bytes(1 << 20)):
        positions_of(data, cuts.size // 16, cuts, moved)
    assert memory.taken() < CAP + CAP_PER_PARAMETER * cuts.size


def test_frames_without_context_are_refused():
    """Whoever decodes without knowing the model's way can not be led into guessing."""
    rest = (
        (SectionKind.TABLES, 0, np.float32([0.5]).tobytes()),
        (SectionKind.SIGNS, 0, bytes(-(-POSITIONS.size // 8))),
    )
    frame = frame_of(SPEC, (stage(16, POSITIONS.size), stage(35)), (SectionKind.POSITIONS, INTERVALS, DATA), *rest)
    assert outcome_of(frame, SPEC) == "missing-context"


def test_intervals_elsewhere_are_refused():
    """Only positions and signs have a model that says what intervals mean."""
    for kind, stages in (
        (SectionKind.VALUES, (stage(34, 4, 1, 1),)),
        (SectionKind.KEPT_FLOATS, (stage(1, 9999, 32), stage(32))),
    ):
        assert outcome_of(frame_of(SPEC, stages, (kind, INTERVALS, DATA)), SPEC) == "malformed"


def test_channels_that_do_not_fit():
    for cuts in (Cuts.of_one(POSITIONS.size), Cuts.of_one(0), Cuts.of_one(1 << 16)):
        signs_of(SIGNS, cuts)
