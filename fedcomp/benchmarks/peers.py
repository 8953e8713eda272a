"""What others make of the same integers and the same masks, in the same run."""

from __future__ import annotations

import bz2
import gzip
import importlib
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from fedcomp.codecs.coding.entropy import compress
from fedcomp.codecs.coding.sections import code_positions, code_values
from fedcomp.codecs.layout import flatten_finite, layout_of
from fedcomp.codecs.stages.topk import TopK
from fedcomp.codecs.stages.uniform import Uniform
from fedcomp.types import ModelSpec
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.types import ModelDelta, NDArray
    from fedcomp.wire import Section

OURS = "fedcomp"
DEEP_CABAC = "nncodec (DeepCABAC)"
GZIP_FLOATS = "gzip over float32 (as OpenFL)"
PLAIN_PAIRS = "int64 + float32 (as FedLab)"

_OPTIONAL = ("constriction", "nncodec")
"""Peers that are measured where somebody has installed them, and named as absent elsewhere."""
_ENOUGH_SECONDS, _MOST_REPEATS = 0.5, 9
_TEMPORAL_SHARES = (0.3, 0.1, 0.03, 0.01)


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One way to write the same information.

    Args:
        what: The information.
        peer: Who writes it this way; ``fedcomp`` is among them.
        num_bytes: What it takes; None if the peer is absent.
        over_fedcomp: That over fedcomp's.
        over_entropy: That over the order-0 entropy, for symbols.
        seconds: To write it, from the integers or the mask: the median of some calls.
        time_over_fedcomp: That over fedcomp's.
    """

    what: str
    peer: str
    num_bytes: int | None
    over_fedcomp: float | None = None
    over_entropy: float | None = None
    seconds: float | None = None
    time_over_fedcomp: float | None = None


def compare_symbols(delta: ModelDelta, bits: int) -> list[PeerResult]:
    """Compare what writes the symbols of ``uniform(bits=...)``, at most 8 bits."""
    layout = layout_of(ModelSpec.of(delta), 0)
    cuts = layout.coded.cuts
    quantizer = Uniform(bits=bits)
    symbols = quantizer.quantize(flatten_finite(layout.coded, delta), cuts, None)[SectionKind.VALUES]
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / symbols.size
    entropy = float(-(shares * np.log2(shares)).sum() * symbols.size / 8)
    ways: dict[str, Callable[[], bytes]] = {
        OURS: lambda: _joined(code_values(symbols, cuts, quantizer.centre)),
        "zstd level 3": lambda: zstandard.compress(symbols.data, 3),
        "zstd level 19": lambda: zstandard.compress(symbols.data, 19),
        "bz2 level 1 (as NVFlare)": lambda: bz2.compress(symbols.data, 1),
        "gzip level 6": lambda: gzip.compress(symbols.data, 6),
    }
    if "constriction" not in _absent():
        ways["constriction (range coder)"] = lambda: _range_code(symbols, shares=counts / symbols.size)
    if "nncodec" not in _absent():
        levels = _as_matrices(delta, symbols.astype(np.int32) - quantizer.largest)
        ways[DEEP_CABAC] = lambda: _deep_cabac(levels)
    return _compare(f"{bits}-bit symbols", ways, entropy)


def compare_sparse(delta: ModelDelta, density: float) -> list[PeerResult]:
    """Compare what writes a top-k ternary update: the same mask, signs and magnitude for all."""
    layout = layout_of(ModelSpec.of(delta), 0)
    cuts = layout.coded.cuts
    positions, values, _ = TopK(density=density).select(flatten_finite(layout.coded, delta), cuts, None)
    dense = np.zeros(cuts.size, np.float32)
    dense[positions] = np.copysign(np.abs(values).mean(), values)
    chosen = dense[positions]
    ways: dict[str, Callable[[], bytes]] = {
        OURS: lambda: _joined(code_positions(positions, cuts)) + compress(np.packbits(chosen < 0))[1],
        GZIP_FLOATS: lambda: gzip.compress(dense.tobytes(), 6),
        PLAIN_PAIRS: lambda: positions.astype(np.int64).tobytes() + chosen.tobytes(),
        "zstd 19 over float32": lambda: zstandard.compress(dense.tobytes(), 19),
    }
    if "nncodec" not in _absent():
        levels = _as_matrices(delta, np.sign(dense).astype(np.int32))
        ways[DEEP_CABAC] = lambda: _deep_cabac(levels)
    return _compare(f"top {density:.2%} ternary", ways, None)


def _joined(sections: list[Section]) -> bytes:
    return b"".join(section.data for section in sections)


def _compare(what: str, ways: dict[str, Callable[[], bytes]], entropy: float | None) -> list[PeerResult]:
    measured = {peer: (len(write()), _median_seconds(write)) for peer, write in ways.items()}
    own_bytes, own_seconds = measured[OURS]
    results = [
        PeerResult(
            what=what,
            peer=peer,
            num_bytes=num_bytes,
            over_fedcomp=num_bytes / own_bytes,
            over_entropy=num_bytes / entropy if entropy else None,
            seconds=seconds,
            time_over_fedcomp=seconds / own_seconds,
        )
        for peer, (num_bytes, seconds) in measured.items()
    ]
    return results + [PeerResult(what, f"{name}: not installed", None) for name in _absent()]


def _median_seconds(write: Callable[[], bytes]) -> float:
    times: list[float] = []
    while not times or (sum(times) < _ENOUGH_SECONDS and len(times) < _MOST_REPEATS):
        started = time.perf_counter()
        write()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _as_matrices(delta: ModelDelta, flat: NDArray) -> list[NDArray]:
    """Cut a flat vector into the floating tensors of `delta`, each as channels by all else."""
    group = layout_of(ModelSpec.of(delta), 0).coded
    return [part.reshape(tensor.num_channels, -1) for tensor, part in group.slices(flat) if tensor.size]


def deep_cabac_of_signs(delta: ModelDelta, *, moved: ModelDelta) -> tuple[int, int] | None:
    """Return what NNCodec takes for a sparse ternary update, in bytes: bare streams.

    Args:
        delta: Of whose values the signs are coded.
        moved: How far each weight has moved, its temporal context: it is told which are among the most moved ones, at
            the best of four shares.

    Returns:
        Without and with the context; None if NNCodec is not installed.
    """
    if "nncodec" in _absent():
        return None
    levels = _as_matrices(delta, np.sign(_flat(delta)).astype(np.int32))
    distances = np.abs(_flat(moved))
    tops = [np.quantile(distances, 1 - share) for share in _TEMPORAL_SHARES]
    histories = [_as_matrices(moved, (distances > top).astype(np.int8)) for top in tops]
    plain = len(_deep_cabac(levels))
    return plain, min(plain, *(len(_deep_cabac(levels, history)) for history in histories))


def _flat(delta: ModelDelta) -> NDArray:
    return flatten_finite(layout_of(ModelSpec.of(delta), 0).coded, delta)


def _deep_cabac(levels: list[NDArray], histories: list[NDArray] | None = None) -> bytes:
    """Code integer matrices as NNCodec does, with its row skipping and optimized parameters: the bare streams."""
    cabac = importlib.import_module("nncodec.extensions.deepCABAC")
    streams = []
    for index, matrix in enumerate(levels):
        encoder = cabac.Encoder()
        encoder.initCtxModels(10, 1)
        skipped = (~matrix.any(axis=1)).astype(np.int32)
        mode, history = cabac.HdspMode.AlwaysOff, np.zeros(2, np.int8)
        if histories is not None:
            mode, history = cabac.HdspMode.TensorOn, histories[index].ravel()
        encoder.encodeLayer(matrix, 0, 0, 1, 0, 1, skipped, mode, history, 0, 0)
        streams.append(encoder.finish().tobytes())
    return b"".join(streams)


def _absent() -> list[str]:
    def is_there(name: str) -> bool:
        try:
            importlib.import_module(name)
        except ImportError:
            return False
        return True

    return [name for name in _OPTIONAL if not is_there(name)]


def _range_code(symbols: NDArray, shares: NDArray) -> bytes:
    constriction = importlib.import_module("constriction")
    model = constriction.stream.model.Categorical(shares, perfect=False)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols.astype(np.int32), model)
    return bytes(encoder.get_compressed().tobytes())
