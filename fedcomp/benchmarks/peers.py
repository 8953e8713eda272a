"""What others make of the same integers and the same masks, in the same run."""

from __future__ import annotations

import bz2
import gzip
import importlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from fedcomp.codecs import parse_codec
from fedcomp.codecs.decoder import decode_update
from fedcomp.codecs.entropy import compress
from fedcomp.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.types import ModelDelta, NDArray

_OPTIONAL = ("constriction", "nncodec")
"""Peers that are measured where somebody has installed them, and named as absent elsewhere."""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One way to write the same information.

    Args:
        what: The information.
        peer: Who writes it this way; ``fedcomp`` is among them.
        num_bytes: What it takes; None if the peer is absent.
        over_fedcomp: That over fedcomp's.
        over_entropy: That over the order-0 entropy, for symbols.
        seconds: To encode.
    """

    what: str
    peer: str
    num_bytes: int | None
    over_fedcomp: float | None = None
    over_entropy: float | None = None
    seconds: float | None = None


def compare_symbols(delta: ModelDelta, bits: int) -> list[PeerResult]:
    """Compare entropy coders on the symbols of ``uniform(bits=...)``."""
    flat = np.concatenate([values.reshape(-1) for values in delta.values()])
    largest = (1 << (bits - 1)) - 1
    symbols = (np.rint(flat / np.abs(flat).max() * largest) + largest).astype(np.uint8)
    shares = np.bincount(symbols)[np.bincount(symbols) > 0] / symbols.size
    entropy = float(-(shares * np.log2(shares)).sum() * symbols.size / 8)
    ways: dict[str, Callable[[], bytes]] = {
        "fedcomp": lambda: compress(symbols)[1],
        "zstd level 3": lambda: zstandard.compress(symbols.data, 3),
        "zstd level 19": lambda: zstandard.compress(symbols.data, 19),
        "bz2 level 1 (as NVFlare)": lambda: bz2.compress(symbols.data, 1),
        "gzip level 6": lambda: gzip.compress(symbols.data, 6),
    }
    if "constriction" not in _absent():
        ways["constriction (range coder)"] = lambda: _range_code(symbols, shares=np.bincount(symbols) / symbols.size)
    if "nncodec" not in _absent():
        levels = _as_matrices(delta, symbols.astype(np.int32) - largest)
        ways["nncodec (DeepCABAC)"] = lambda: _deep_cabac(levels)
    results = _compare(f"{bits}-bit symbols", ways, entropy)
    return results + [PeerResult(f"{bits}-bit symbols", f"{name}: not installed", None) for name in _absent()]


def compare_sparse(delta: ModelDelta, density: float) -> list[PeerResult]:
    """Compare ways to write a top-k ternary update: the same mask, signs and magnitude for all."""
    codec = parse_codec(f"topk(density={density}) | ternary")
    frame = codec.encode(delta).frame
    received = decode_update(frame, ModelSpec.of(delta))
    dense = np.concatenate([values.reshape(-1) for values in received.to_delta().values()])
    positions, values = np.flatnonzero(dense), dense[dense != 0]
    ways: dict[str, Callable[[], bytes]] = {
        "fedcomp": lambda: codec.encode(delta).frame,
        "gzip over float32 (as OpenFL)": lambda: gzip.compress(dense.tobytes(), 6),
        "int64 + float32 (as FedLab)": lambda: positions.astype(np.int64).tobytes() + values.tobytes(),
        "zstd 19 over float32": lambda: zstandard.compress(dense.tobytes(), 19),
    }
    if "nncodec" not in _absent():
        levels = _as_matrices(delta, np.sign(dense).astype(np.int32))
        ways["nncodec (DeepCABAC)"] = lambda: _deep_cabac(levels)
    return _compare(f"top {density:.2%} ternary", ways, None)


def _compare(what: str, ways: dict[str, Callable[[], bytes]], entropy: float | None) -> list[PeerResult]:
    measured = {}
    for peer, write in ways.items():
        write()
        started = time.perf_counter()
        num_bytes = len(write())
        measured[peer] = num_bytes, time.perf_counter() - started
    own = measured["fedcomp"][0]
    return [
        PeerResult(what, peer, num_bytes, num_bytes / own, num_bytes / entropy if entropy else None, seconds)
        for peer, (num_bytes, seconds) in measured.items()
    ]


def _as_matrices(delta: ModelDelta, flat: NDArray) -> list[NDArray]:
    """Cut a flat vector into the tensors of `delta`, each as channels by all else."""
    bounds = np.cumsum([0, *(values.size for values in delta.values())])
    return [
        flat[left:right].reshape(values.shape[0] if values.ndim > 1 else 1, -1)
        for values, left, right in zip(delta.values(), bounds[:-1], bounds[1:], strict=True)
        if values.size
    ]


def _deep_cabac(levels: list[NDArray]) -> bytes:
    """Code integer matrices as NNCodec does, with its row skipping and optimized parameters: the bare streams."""
    cabac = importlib.import_module("nncodec.extensions.deepCABAC")
    streams = []
    for matrix in levels:
        encoder = cabac.Encoder()
        encoder.initCtxModels(10, 1)
        skipped = (~matrix.any(axis=1)).astype(np.int32)
        never = cabac.HdspMode.AlwaysOff, np.zeros(2, np.int8)
        encoder.encodeLayer(matrix, 0, 0, 1, 0, 1, skipped, *never, 0, 0)
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
