"""Sections that would decompress to much more than the model has, or that say so, for every coder and kind."""

import json
import time

import numpy as np
import openzl.ext as openzl
import pytest
import zstandard
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, standalone

import fedcomp
from fedcomp.codecs.coding.entropy import OpenZLFSE, Pcodec, Raw, Zstd, compress
from fedcomp.codecs.coding.openzl_frame import check_openzl_frame
from fedcomp.flower.messages.model_order import read_spec
from fedcomp.wire import SectionKind
from tests.attacks.check import CAP, Memory, outcome_of
from tests.attacks.forge import frame_of, stage

SPEC = fedcomp.ModelSpec.of({"w": np.zeros((10, 100), np.float32)})
LARGE = np.zeros(2 * CAP, np.uint8)
TABLE = (SectionKind.TABLES, Raw.wire_id, np.float32([0.5]).tobytes())
SIGNS = (SectionKind.SIGNS, Raw.wire_id, bytes(125))
GAPS = (SectionKind.POSITIONS, Raw.wire_id, bytes(4000))

TOPK_TERNARY = (stage(16, 1000), stage(35))
KINDS = {
    "positions": (SectionKind.POSITIONS, TOPK_TERNARY, (TABLE, SIGNS)),
    "signs": (SectionKind.SIGNS, TOPK_TERNARY, (GAPS, TABLE)),
    "tables": (SectionKind.TABLES, TOPK_TERNARY, (GAPS, SIGNS)),
    "symbols": (SectionKind.VALUES, (stage(34, 4, 0, 0),), (TABLE,)),
    "wide symbols": (SectionKind.VALUES, (stage(34, 12, 0, 0),), (TABLE,)),
    "floats": (SectionKind.VALUES, (stage(32),), ()),
    "half floats": (SectionKind.VALUES, (stage(33),), ()),
    "kept floats": (SectionKind.KEPT_FLOATS, (stage(1, 2000, 32), stage(32)), ()),
}


def zstd_that_hides_its_size():
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(LARGE.data) + stream.flush()


def zstd_that_claims(size):
    """Return a frame header that claims `size` bytes and the largest window, and one empty last block."""
    return b"\x28\xb5\x2f\xfd\xc0\xf8" + size.to_bytes(8, "little") + b"\x01\x00\x00"


def openzl_that_claims(size):
    """Return a frame of one byte, repeated `size` times."""
    claim = varint(size)
    header = bytes([len(claim) - 1])
    return (
        b"\xdb\xa5\xb1\xd7\x00\x01" + varint(size + 1) + b"\x02\x01\x00\x2c\x01" + header + b"\x00\x00\x00\x01" + claim
        + b"\x00\x00"
    )  # fmt: skip


def pcodec_that_claims(size, dtype):
    """Return a frame of zeros whose preamble and chunk claim `size` numbers."""
    number = {"uint16": 7, "uint32": 1, "float16": 9, "float32": 5}[dtype]
    hint = (size << 6 | size.bit_length() - 1).to_bytes(9, "little").rstrip(b"\0")
    chunk = bytes([number]) + min(size - 1, 2**24 - 1).to_bytes(3, "little")
    return b"pco!\x03\x00" + hint + b"\x04\x01" + chunk + bytes([0, 0x10, 0, 0, 0, 0, 0, 0, 0])


def varint(number):
    limbs = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([limb | 128 for limb in limbs[:-1]] + limbs[-1:])


BOMBS = {
    "raw": (Raw, lambda: bytes(1 << 20)),
    "zstd": (Zstd, lambda: zstandard.compress(LARGE.data)),
    "zstd that hides its size": (Zstd, zstd_that_hides_its_size),
    "openzl": (OpenZLFSE, lambda: OpenZLFSE().encode(LARGE)),
    "pcodec": (Pcodec, lambda: bytes(standalone.simple_compress(LARGE.view(np.uint32), ChunkConfig()))),
    "pcodec of half the width": (
        Pcodec,
        lambda: bytes(standalone.simple_compress(LARGE.view(np.uint16), ChunkConfig())),
    ),
}
CLAIMS = [1001, 2**20, 2**31, 2**32, 2**40, 2**63 - 1]


@pytest.fixture(scope="module", params=BOMBS)
def bomb(request):
    coder, make = BOMBS[request.param]
    return coder.wire_id, make()


@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_refused(bomb, kind):
    section, stages, others = KINDS[kind]
    assert outcome_of(frame_of(SPEC, stages, (section, *bomb), *others), SPEC) == "malformed"


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_claims_are_refused(kind, claim):
    section, stages, others = KINDS[kind]
    claims = [(Zstd, zstd_that_claims(claim)), (OpenZLFSE, openzl_that_claims(claim))]
    claims += [(Pcodec, pcodec_that_claims(claim, dtype)) for dtype in ("uint16", "uint32", "float16", "float32")]
    for coder, data in claims:
        frame = frame_of(SPEC, stages, (section, coder.wire_id, data), *others)
        assert outcome_of(frame, SPEC) == "malformed"


@pytest.mark.parametrize("chunk", [b"\x01\x00", b"\x01\x01\x00"])
def test_more_openzl_chunks_than_the_size_needs_are_refused(chunk):
    """Each takes two bytes of a frame and some 30 microseconds."""
    honest = OpenZLFSE().encode(np.random.default_rng(0).binomial(14, 0.5, 1000).astype(np.uint8))
    assert outcome_of(symbols_of(honest, (stage(34, 4, 0, 0),)), SPEC) == "decoded"
    data = honest[:8] + 100_000 * chunk + honest[8:]
    started = time.process_time()
    with pytest.raises(fedcomp.errors.FrameMalformed, match="openzl section has"):
        fedcomp.decode(symbols_of(data, (stage(34, 4, 0, 0),)), SPEC)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("size", [1, 1 << 15, (1 << 15) + 1, 3 << 15, 1_000_001])
def test_openzl_frames_of_the_encoder_have_few_enough_parts(size):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, size, np.uint8)
    for symbols in (noise, noise // 255, noise // 200, np.where(np.arange(size) // 50_000 % 2, noise, 0)):
        check_openzl_frame(OpenZLFSE().encode(symbols.astype(np.uint8)), size)


def test_a_claim_within_the_output_is_refused():
    """The output's size is right; a stream on the way to it is not."""
    honest, large = openzl_that_claims(1000), varint(2**40)
    assert honest.endswith(varint(1000) + b"\x00\x00")
    data = honest[: -len(varint(1000)) - 2] + large + b"\x00\x00"
    data = data.replace(b"\x2c\x01\x01", b"\x2c\x01" + bytes([len(large) - 1]))
    stages = (stage(34, 4, 0, 0),)
    assert outcome_of(symbols_of(honest, stages), SPEC) == "decoded"
    assert outcome_of(symbols_of(data, stages), SPEC) == "malformed"


def symbols_of(data, stages):
    return frame_of(SPEC, stages, (SectionKind.VALUES, OpenZLFSE.wire_id, data), TABLE)


class StringLengths(openzl.FunctionGraph):
    """Cuts the input into strings, nearly all of them empty: their lengths are a stream that the output never shows."""

    def function_graph_description(self):
        return openzl.FunctionGraphDescription(name="strings", input_type_masks=[openzl.TypeMask.Serial])

    def graph(self, state):
        (strings,) = openzl.nodes.ConvertSerialToString([1] * 1000 + [0] * 1_000_000).run(state.edges[0])
        content, lengths = openzl.nodes.SeparateStringComponents().run(strings)
        content.set_destination(openzl.graphs.Zstd().base_graph)
        (lengths,) = openzl.nodes.ConvertNumToSerialLE().run(lengths)
        lengths.set_destination(openzl.graphs.Zstd().base_graph)


def openzl_of(graph_of, inputs):
    context, compressor = openzl.CCtx(), openzl.Compressor()
    compressor.select_starting_graph(graph_of(compressor))
    context.ref_compressor(compressor)
    context.set_parameter(openzl.CParam.FormatVersion, OpenZLFSE.format_version)
    context.set_parameter(openzl.CParam.ContentChecksum, 2)
    context.set_parameter(openzl.CParam.CompressedChecksum, 2)
    return bytes(context.compress([openzl.Input(openzl.Type.Serial, array) for array in inputs]))


def test_streams_that_the_output_never_shows_are_refused():
    data = openzl_of(lambda compressor: compressor.register_function_graph(StringLengths()), [LARGE[:1000]])
    assert len(data) < 1000
    assert openzl.DCtx().decompress(data)[0].content.as_nparray().size == 1000
    with pytest.raises(fedcomp.errors.FrameMalformed, match="codecs"):
        fedcomp.decode(symbols_of(data, (stage(34, 4, 0, 0),)), SPEC)


@pytest.mark.parametrize("graph", ["Zstd", "Compress", "Huffman"])
def test_other_openzl_graphs_are_refused(graph):
    symbols = np.random.default_rng(0).binomial(14, 0.5, 1000).astype(np.uint8)
    data = openzl_of(lambda compressor: getattr(openzl.graphs, graph)()(compressor), [symbols])
    assert outcome_of(symbols_of(data, (stage(34, 4, 0, 0),)), SPEC) == "malformed"


def test_several_openzl_outputs_are_refused():
    data = openzl_of(lambda compressor: openzl.graphs.Compress()(compressor), [LARGE[:1000]] * 2)
    assert outcome_of(symbols_of(data, (stage(34, 4, 0, 0),)), SPEC) == "malformed"


@pytest.mark.parametrize(
    "config",
    [
        ChunkConfig(delta_spec=DeltaSpec.try_lookback(), mode_spec=ModeSpec.classic()),
        ChunkConfig(delta_spec=DeltaSpec.try_consecutive(2), mode_spec=ModeSpec.classic()),
        ChunkConfig(delta_spec=DeltaSpec.no_op(), mode_spec=ModeSpec.try_int_mult(1000)),
    ],
)
def test_pcodec_modes_with_memory_of_their_own_are_refused(config):
    """A chunk with a lookback window decodes into a window that the sender chooses: up to 2^24 numbers."""
    gaps = np.zeros(1000, np.uint32) + np.tile(np.arange(10, dtype=np.uint32) * 1000, 100)
    data = bytes(standalone.simple_compress(gaps, config))
    frame = frame_of(SPEC, TOPK_TERNARY, (SectionKind.POSITIONS, Pcodec.wire_id, data), TABLE, SIGNS)
    with pytest.raises(fedcomp.errors.FrameMalformed, match="classic mode"):
        fedcomp.decode(frame, SPEC)


@pytest.mark.parametrize("wide", [False, True])
def test_large_models_take_no_more_than_they_have_to(wide):
    """All positions, the smallest blocks, the highest rank: what a small frame costs grows with the model alone."""
    spec = fedcomp.ModelSpec.of({"w": np.zeros((500_000, 2) if wide else (1000, 1000), np.float32)})
    size, rank = spec.num_parameters, 1 if wide else 64
    positions, floats = zeros("POSITIONS", size, np.uint32), zeros("VALUES", size, np.float32)
    tables, factors = zeros("TABLES", size // 8, np.float32), rank * sum(spec.tensors[0].shape)
    frames = [
        frame_of(spec, (stage(16, size), stage(32)), positions, floats),
        frame_of(spec, (stage(17, size, 2**64 - 1), stage(32)), floats),
        frame_of(spec, (stage(36, 3, 8),), tables, zeros("SIGNS", size // 8, np.uint8)),
        frame_of(spec, (stage(37, 3, 8),), tables, zeros("VALUES", size, np.uint8)),
        frame_of(spec, (stage(27, rank), stage(32)), zeros("VALUES", factors, np.float32)),
    ]
    assert all(len(frame) < 5000 for frame in frames)
    assert [outcome_of(frame, spec) for frame in frames] == ["decoded"] * 5


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_whole_model_takes_no_more_than_is_said(dtype):
    """`compression_mod` names the bytes a parameter: all positions are the worst that a server can choose."""
    spec = fedcomp.ModelSpec.of({"w": np.zeros((2000, 1000), dtype)})
    size, text = spec.num_parameters, json.dumps([["w", dtype, [2000, 1000]]]).encode()
    floats = zeros("VALUES", size, np.float32)
    frame = frame_of(spec, (stage(16, size), stage(32)), zeros("POSITIONS", size, np.uint32), floats)
    memory = Memory()
    base = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in read_spec(text, 1 << 32)}
    fedcomp.types.add_delta(base, fedcomp.decode(frame, spec))
    assert memory.taken() < 40 * size


def zeros(kind, count, dtype):
    """Return a section of zeros, as small as it gets."""
    return SectionKind[kind], *compress(np.zeros(count, dtype))
