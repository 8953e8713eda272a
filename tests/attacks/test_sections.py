"""What a frame is made of: gaps, ends, order, doubles, and headers that lie about all that."""

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs.coding.entropy import CODERS, OpenZLFSE, Pcodec, Raw, Zstd
from fedcomp.errors import FrameMalformed, FrameTooLarge, InvalidValues, SpecMismatch, WrongCodec
from fedcomp.wire import FrameLimits, SectionKind, frame_pb2, read_frame
from tests.attacks.check import outcome_of, sealed
from tests.attacks.forge import frame_of, stage

SPEC = fedcomp.ModelSpec.of({"w": np.zeros(1000, np.float32)})
TOPK = (stage(16, 3), stage(32))
THREE = (SectionKind.VALUES, 0, np.float32([1, 2, 3]).tobytes())


def topk(gaps, coder=0):
    """Return a frame of three positions."""
    data = np.array(gaps, np.int64).astype(np.uint32)
    return frame_of(SPEC, TOPK, (SectionKind.POSITIONS, coder, CODERS[coder].encode(data)), THREE)


@pytest.mark.parametrize("coder", [Raw.wire_id, Pcodec.wire_id])
class TestGaps:
    """A gap is a difference less one, so no two positions are equal or fall, whatever a sender writes.

    What overlaps or decreases in a sender's mind is -1 or less: as an unsigned number, a gap beyond every model's end.
    """

    def test_equal_positions_can_not_be_written(self, coder):
        assert np.flatnonzero(fedcomp.decode(topk([5, 0, 0], coder), SPEC)["w"]).tolist() == [5, 6, 7]

    @pytest.mark.parametrize("gaps", [(5, -1, 0), (5, -6, 3), (-1, 0, 0), (0, 0, -1), (-1, -1, -1), (2**31, 2**31, 0)])
    def test_falling_positions_are_refused(self, coder, gaps):
        with pytest.raises(InvalidValues, match="positions reach"):
            fedcomp.decode(topk(gaps, coder), SPEC)

    @pytest.mark.parametrize("gaps", [(998, 0, 0), (0, 0, 998), (1000, 0, 0), (2**32 - 1, 2**32 - 1, 2**32 - 1)])
    def test_positions_behind_the_end_are_refused(self, coder, gaps):
        assert outcome_of(topk(gaps, coder), SPEC) == "invalid-values"

    def test_the_last_position_is_taken(self, coder):
        assert fedcomp.decode(topk([997, 0, 0], coder), SPEC)["w"][-3:].tolist() == [1, 2, 3]


def test_a_sum_of_gaps_can_not_wrap():
    """2^32 - 1 a hundred times is not a small number again."""
    gaps = np.full(100, 2**32 - 1, np.uint32)
    sections = ((SectionKind.POSITIONS, 0, gaps.tobytes()), (SectionKind.VALUES, 0, bytes(400)))
    assert outcome_of(frame_of(SPEC, (stage(16, 100), stage(32)), *sections), SPEC) == "invalid-values"


SYMBOLS = np.random.default_rng(0).binomial(14, 0.5, 1000).astype(np.uint8)
TABLE = (SectionKind.TABLES, 0, np.float32([0.5]).tobytes())
CODED = {
    "raw": (Raw(), SYMBOLS, (stage(34, 4, 0, 0),)),
    "zstd": (Zstd(), SYMBOLS, (stage(34, 4, 0, 0),)),
    "openzl": (OpenZLFSE(), SYMBOLS, (stage(34, 4, 0, 0),)),
    "pcodec": (Pcodec(), SYMBOLS.astype(np.uint16), (stage(34, 12, 0, 0),)),
}


def coded(name, change):
    """Return a frame whose symbols' bytes went through `change`."""
    coder, symbols, stages = CODED[name]
    return frame_of(SPEC, stages, (SectionKind.VALUES, coder.wire_id, change(coder.encode(symbols))), TABLE)


@pytest.mark.parametrize("name", CODED)
class TestEndsOfSections:
    """A coder takes exactly the bytes of its section."""

    def test_as_it_is(self, name):
        assert outcome_of(coded(name, lambda data: data), SPEC) == "decoded"

    def test_every_shorter_section_is_refused(self, name):
        coder, symbols, _ = CODED[name]
        for end in range(len(coder.encode(symbols))):
            assert outcome_of(coded(name, lambda data: data[:end]), SPEC) == "malformed"  # noqa: B023

    @pytest.mark.parametrize("extra", [b"\0", b"\xff", b"\0" * 64, b"more"])
    def test_trailing_bytes_are_refused(self, name, extra):
        assert outcome_of(coded(name, lambda data: data + extra), SPEC) == "malformed"

    def test_a_second_stream_is_refused(self, name):
        assert outcome_of(coded(name, lambda data: data + data), SPEC) == "malformed"

    def test_leading_bytes_are_refused(self, name):
        assert outcome_of(coded(name, lambda data: b"\0" + data), SPEC) == "malformed"

    def test_another_coder_s_name_is_refused(self, name):
        coder, symbols, stages = CODED[name]
        data = coder.encode(symbols)
        for other in (*CODERS, 4, 2**32 - 1):
            if other != coder.wire_id:
                frame = frame_of(SPEC, stages, (SectionKind.VALUES, other, data), TABLE)
                assert outcome_of(frame, SPEC) == "malformed"


HONEST = coded("raw", bytes)
LIMITS = FrameLimits()


def rebuilt(*, fields=None, body=None, header_bytes=None, behind=b""):
    """Return HONEST with another section table, other section bytes, another header length, or bytes at the end."""
    header_end = 6 + int.from_bytes(HONEST[4:6], "little")
    header = frame_pb2.Header.FromString(HONEST[6:header_end])
    if fields is not None:
        del header.sections[:]
        header.sections.extend(fields)
    raw = header.SerializeToString(deterministic=True)
    length = len(raw) if header_bytes is None else header_bytes
    body = HONEST[header_end:-8] if body is None else body
    return sealed(HONEST[:4] + length.to_bytes(2, "little") + raw + body) + behind


def test_rebuilt_is_honest():
    assert rebuilt() == HONEST


@pytest.mark.parametrize("behind", [b"\0", b"\0" * 8, b"more", HONEST])
def test_bytes_behind_the_checksum_are_refused(behind):
    assert outcome_of(rebuilt(behind=behind), SPEC) in ("checksum", "malformed")


@pytest.mark.parametrize("at", [0, 1, 4, 5, 1004])
def test_bytes_between_sections_are_refused(at):
    body = TABLE[2] + SYMBOLS.tobytes()
    with pytest.raises(FrameMalformed, match="declare 1004 bytes, the frame holds 1005"):
        read_frame(rebuilt(body=body[:at] + b"\0" + body[at:]), LIMITS)


@pytest.mark.parametrize("lengths", [(4, 999), (4, 1001), (0, 1000), (1004, 1000), (4, 2**32 - 1), (2**32 - 1, 5)])
def test_lengths_that_do_not_add_up_are_refused(lengths):
    assert outcome_of(rebuilt(fields=[4, 0, lengths[0], 5, 0, lengths[1]]), SPEC) == "malformed"


@pytest.mark.parametrize("lengths", [(3, 1001), (5, 999), (0, 1004), (1004, 0)])
def test_lengths_that_only_add_up_are_refused(lengths):
    assert outcome_of(rebuilt(fields=[4, 0, lengths[0], 5, 0, lengths[1]]), SPEC) == "malformed"


@pytest.mark.parametrize(
    "fields",
    [
        [4, 0, 4, 4, 0, 1000],
        [5, 0, 1000, 5, 0, 4],
        [5, 0, 1000, 4, 0, 4],
        [4, 0, 4, 5, 0, 0, 5, 0, 1000],
        [4, 0, 4, 4, 0, 0, 5, 0, 1000],
        [4, 0, 4, 5, 0, 1000, 6, 0, 0],
        [0, 0, 0, 4, 0, 4, 5, 0, 1000],
        [4, 0, 4, 5, 0, 1000, 7, 0, 0],
        [4, 0, 4, 5, 0],
        [4, 0],
        [],
    ],
)
def test_doubled_missing_and_unordered_sections_are_refused(fields):
    assert outcome_of(rebuilt(fields=fields), SPEC) == "malformed"


def test_every_length_of_the_header_but_the_right_one_is_refused():
    right = int.from_bytes(HONEST[4:6], "little")
    assert all(outcome_of(rebuilt(header_bytes=n), SPEC) != "decoded" for n in range(2000) if n != right)
    with pytest.raises(FrameTooLarge, match="header"):
        read_frame(rebuilt(header_bytes=65535), LIMITS)


def test_another_spelling_of_the_header_is_refused():
    header_end = 6 + int.from_bytes(HONEST[4:6], "little")
    raw, body = HONEST[6:header_end], HONEST[header_end:-8]
    spellings = [raw + b"\x40\x01", b"\x08\x00" + raw, raw + raw, raw + b"\x08\x80\x00", raw + b"\xfa\x01\x00"]
    for spelling in spellings:
        content = HONEST[:4] + len(spelling).to_bytes(2, "little") + spelling + body
        assert outcome_of(sealed(content), SPEC) == "malformed"


@pytest.mark.parametrize(
    "tensors",
    [
        {"v": (1000,)},
        {"w": (1000, 1)},
        {"w": (10, 100)},
        {"w": (999,)},
        {"w": (1000,), "b": (1,)},
        {},
    ],
)
def test_another_model_s_frame_is_refused(tensors):
    spec = fedcomp.ModelSpec.of({name: np.zeros(shape, np.float32) for name, shape in tensors.items()})
    with pytest.raises(SpecMismatch):
        fedcomp.decode(HONEST, spec)


@pytest.mark.parametrize(
    "text",
    [
        "uniform(bits=5)",
        "uniform(bits=4, scale=model)",
        "uniform(bits=4, affine=true)",
        "nf4",
        "sign",
        "lossless",
        "keep(below=3) | uniform(bits=4)",
        "topk(density=0.1) | uniform(bits=4)",
        "rotate | uniform(bits=4)",
    ],
)
def test_another_codec_s_frame_is_refused(text):
    assert fedcomp.decode(HONEST, SPEC, codec=fedcomp.codec("uniform(bits=4)")).keys() == {"w"}
    with pytest.raises(WrongCodec):
        fedcomp.decode(HONEST, SPEC, codec=fedcomp.codec(text))
