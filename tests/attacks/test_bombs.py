"""Small sections that would decompress to much more than the model has."""

import tracemalloc

import numpy as np
import openzl.ext as openzl
import pytest
import zstandard
from pcodec import ChunkConfig, standalone

import fedcomp
from fedcomp.codecs.entropy import OpenZLFSE, Pcodec, Zstd
from fedcomp.errors import FrameError
from fedcomp.wire import Binding, Frame, Section, SectionKind, StageHeader, write_frame

SPEC = fedcomp.ModelSpec.of({"w": np.zeros(1000, np.float32)})
MEGABYTES = np.zeros(64 << 20, np.uint8)


def zstd_that_hides_its_size():
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(MEGABYTES.data) + stream.flush()


def frame_of(kind, coder, data, stages, *others):
    sections = tuple(sorted((Section(kind, coder, data), *others), key=lambda section: section.kind))
    return write_frame(Frame(Binding(), SPEC.fingerprint, stages, sections))


BOMBS = {
    "zstd declares 64 MiB": (Zstd.wire_id, lambda: zstandard.compress(MEGABYTES.data)),
    "zstd hides 64 MiB": (Zstd.wire_id, zstd_that_hides_its_size),
    "openzl declares 64 MiB": (OpenZLFSE.wire_id, lambda: OpenZLFSE().encode(MEGABYTES)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_symbol_bombs_are_refused(bomb):
    coder, make = BOMBS[bomb]
    tables = Section(SectionKind.TABLES, 0, np.float32([0.5]).tobytes())
    frame = frame_of(SectionKind.VALUES, coder, make(), (StageHeader(34, (4, 0, 0)),), tables)
    assert len(frame) < 20_000
    tracemalloc.start()
    with pytest.raises(FrameError):
        fedcomp.decode(frame, SPEC)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_position_bomb_is_refused():
    data = standalone.simple_compress(np.zeros(1 << 24, np.uint32), ChunkConfig())
    with pytest.raises(FrameError):
        fedcomp.decode(
            frame_of(
                SectionKind.POSITIONS,
                Pcodec.wire_id,
                bytes(data),
                (StageHeader(16, (1000,)), StageHeader(35)),
                Section(SectionKind.TABLES, 0, np.float32([0.5]).tobytes()),
                Section(SectionKind.SIGNS, 0, bytes(125)),
            ),
            SPEC,
        )


def test_several_openzl_outputs_are_refused():
    context = openzl.CCtx()
    compressor = openzl.Compressor()
    compressor.select_starting_graph(openzl.graphs.Compress()(compressor))
    context.ref_compressor(compressor)
    context.set_parameter(openzl.CParam.FormatVersion, OpenZLFSE.format_version)
    inputs = [openzl.Input(openzl.Type.Serial, MEGABYTES[:1000])] * 2
    data = bytes(context.compress(inputs))
    tables = Section(SectionKind.TABLES, 0, np.float32([0.5]).tobytes())
    with pytest.raises(FrameError):
        fedcomp.decode(
            frame_of(SectionKind.VALUES, OpenZLFSE.wire_id, data, (StageHeader(34, (4, 0, 0)),), tables), SPEC
        )


@pytest.mark.parametrize("count", [1001, 2**31, 2**63])
def test_more_coordinates_than_the_model_has_are_refused(count):
    frame = frame_of(SectionKind.POSITIONS, 0, bytes(4), (StageHeader(16, (count,)), StageHeader(35)))
    with pytest.raises(FrameError, match="coordinates selected of 1000"):
        fedcomp.decode(frame, SPEC)
