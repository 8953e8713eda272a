"""Numbers at the edges of 8, 16, 31, 32, 63 and 64 bits, everywhere a count, a length or an index is read."""

import random
from itertools import product

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs.registry import QUANTIZERS, SPARSIFIERS, TRANSFORMS
from fedcomp.errors import FrameError, FrameMalformed, FrameTooLarge
from fedcomp.wire import Binding, FrameLimits, SectionKind, StageHeader, frame_pb2, read_frame
from tests.attacks.check import outcome_of, sealed
from tests.attacks.forge import EDGES, frame_of, sections_fitting, stage

SPEC = fedcomp.ModelSpec.of({"w": np.zeros((10, 100), np.float32), "n": np.array(3), "b": np.zeros(7, np.float32)})
SIZE = 1007
FLOATS = (SectionKind.VALUES, 0, bytes(4 * SIZE))
INTS = (SectionKind.KEPT_INTS, 0, bytes(8))
POSITIONS = {id_: stage.sends_positions for id_, stage in SPARSIFIERS.items()}


def refused(frame, spec=SPEC):
    return outcome_of(frame, spec) != "decoded"


@pytest.mark.parametrize("count", [n for n in EDGES if n > SIZE])
@pytest.mark.parametrize("wire_id", SPARSIFIERS)
def test_more_coordinates_than_the_model_has(wire_id, count):
    stages = (stage(wire_id, count, *(() if POSITIONS[wire_id] else (1,))), stage(32))
    with pytest.raises(FrameMalformed, match=f"{count} coordinates selected of {SIZE}"):
        fedcomp.decode(frame_of(SPEC, stages, FLOATS, INTS), SPEC)


@pytest.mark.parametrize("seed", EDGES)
@pytest.mark.parametrize("count", [0, 1, SIZE // 8, SIZE // 8 + 1, SIZE - 1, SIZE])
def test_random_positions_of_any_seed_and_count(count, seed):
    values = (SectionKind.VALUES, 0, np.full(count, 2, np.float32).tobytes())
    decoded = fedcomp.decode(
        frame_of(SPEC, (stage(17, count, seed), stage(32)), *([values] if count else []), INTS), SPEC
    )
    assert sum(np.count_nonzero(decoded[name]) for name in ("w", "b")) == count


@pytest.mark.parametrize("wire_id", SPARSIFIERS)
def test_the_number_of_arguments_is_the_stage_s_own(wire_id):
    """A seed where positions travel is of another codec than the one that is named, and the other way round."""
    values, gaps = (SectionKind.VALUES, 0, bytes(8)), (SectionKind.POSITIONS, 0, bytes(8))
    sent, drawn = (stage(wire_id, 2), stage(32)), (stage(wire_id, 2, 3), stage(32))
    assert refused(frame_of(SPEC, sent, values, gaps, INTS)) is not POSITIONS[wire_id]
    assert refused(frame_of(SPEC, drawn, values, INTS)) is POSITIONS[wire_id]


@pytest.mark.parametrize("below", EDGES)
def test_any_number_of_elements_below_which_a_tensor_is_kept(below):
    kept = sum(tensor.size for tensor in SPEC if tensor.is_float and tensor.size < below)
    sections = [
        (kind, 0, bytes(4 * n)) for kind, n in ((SectionKind.KEPT_FLOATS, kept), (SectionKind.VALUES, SIZE - kept)) if n
    ]
    assert not refused(frame_of(SPEC, (stage(1, below, 32), stage(32)), *sections, INTS))


@pytest.mark.parametrize("rank", [0, *(n for n in EDGES if n > 64)])
def test_ranks(rank):
    with pytest.raises(FrameMalformed, match=f"rank {rank}"):
        fedcomp.decode(frame_of(SPEC, (stage(27, rank), stage(32)), FLOATS, INTS), SPEC)


@pytest.mark.parametrize("key", EDGES)
def test_any_key_of_a_rotation(key):
    padded = (SectionKind.VALUES, 0, bytes(4 * 1024))
    assert not refused(frame_of(SPEC, (stage(24, key), stage(32)), padded, INTS))


@pytest.mark.parametrize("block", [n for n in EDGES if not 8 <= n <= 1 << 20])
def test_blocks(block):
    for quantizer in (stage(34, 4, 0, 3, block), stage(36, 3, block), stage(37, 3, block), stage(38, 4, 3, block)):
        assert outcome_of(frame_of(SPEC, (quantizer,), FLOATS, INTS), SPEC) == "malformed"


def test_masks_of_frozen_tensors():
    def masked(*limbs):
        return frame_of(SPEC, (stage(2, *limbs), stage(32)), FLOATS, INTS)

    assert refused(masked())
    assert refused(masked(0))
    assert refused(masked(8))
    assert refused(masked(*[2**56 - 1] * 400))
    assert refused(masked(*[0] * 3500, 1))
    assert all(refused(masked(edge)) for edge in EDGES)
    assert outcome_of(frame_of(SPEC, (stage(2, 7), stage(32))), SPEC) == "decoded"


@pytest.mark.parametrize("wire_id", [1, 2, *SPARSIFIERS, *TRANSFORMS, *QUANTIZERS])
def test_every_argument_at_every_edge(wire_id):
    rng = random.Random(0)
    for args in (
        *product(EDGES, repeat=1),
        *product(EDGES[::3], repeat=2),
        *product(EDGES[:12:2], EDGES[::6], EDGES[::5]),
    ):
        header = StageHeader(wire_id, args)
        stages = (header,) if wire_id in QUANTIZERS else (header, stage(32))
        outcome_of(frame_of(SPEC, stages, *map(tuple_of, sections_fitting(stages, SPEC, rng))), SPEC)


def tuple_of(section):
    return section.kind, section.coder, section.data


@pytest.mark.parametrize("size", [1, 4, 64, 1000, 4096])
def test_many_arguments_and_many_stages(size):
    long = [0] * size
    for stages in (
        [stage(34, *long)],
        [stage(16, *long), stage(32)],
        [stage(2, *long, 1), stage(32)],
        [stage(1, 4, 16)] * size,
    ):
        assert refused(frame_of(SPEC, stages, FLOATS, INTS))


def framed(header):
    raw = header.SerializeToString(deterministic=True)
    return sealed(b"fcz\x02" + len(raw).to_bytes(2, "little") + raw)


@pytest.mark.parametrize("length", [n for n in EDGES if 0 < n < 2**32])
def test_lengths_of_sections(length):
    fields = [SectionKind.VALUES, 0, length]
    with pytest.raises(FrameMalformed, match=f"declare {length} bytes, the frame holds 0"):
        read_frame(framed(frame_pb2.Header(sections=fields)), FrameLimits())
    twice = [SectionKind.TABLES, 0, length, SectionKind.VALUES, 0, 2**32 - length]
    with pytest.raises(FrameMalformed, match="declare 4294967296 bytes"):
        read_frame(framed(frame_pb2.Header(sections=twice)), FrameLimits())


@pytest.mark.parametrize("number", [n for n in EDGES if 4 <= n < 2**32])
def test_ids_of_coders_kinds_and_stages(number):
    assert refused(frame_of(SPEC, (stage(32),), (SectionKind.VALUES, number, bytes(4 * SIZE)), INTS))
    header = frame_pb2.Header(sections=[number, 0, 0])
    if number not in {kind.value for kind in SectionKind}:
        with pytest.raises(FrameMalformed, match="unknown"):
            read_frame(framed(header), FrameLimits())
    if number not in {1, 2} | SPARSIFIERS.keys() | TRANSFORMS.keys() | QUANTIZERS.keys():
        assert refused(frame_of(SPEC, (stage(number), stage(32)), FLOATS, INTS))


def test_varints_beyond_their_field():
    """33 bits where the schema has 32: protobuf cuts them, so that the header is not the one that was sent."""
    for field in (b"\x08", b"\x32\x06"):  # round, sections
        raw = field + b"\xff\xff\xff\xff\x7f"
        with pytest.raises(FrameMalformed):
            read_frame(sealed(b"fcz\x02" + len(raw).to_bytes(2, "little") + raw), FrameLimits())


def test_too_many_sections():
    with pytest.raises(FrameTooLarge, match="sections"):
        read_frame(framed(frame_pb2.Header(sections=[1, 0, 0] * 1300)), FrameLimits())


@pytest.mark.parametrize("number", [n for n in EDGES if n < 2**32])
def test_bindings_and_fingerprints(number):
    binding = Binding(round=number, origin=number, base=number)
    data = frame_of(SPEC, (stage(32),), FLOATS, INTS, binding=binding)
    assert outcome_of(data, SPEC) == "decoded"
    context = fedcomp.CodingContext(run="r", sender="s", round=1, base=2)
    with pytest.raises(FrameError, match="update"):
        fedcomp.decode(data, SPEC, context=context)
