"""How small, how fast and how frugal codecs are, against copying the same floats."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.benchmarks.memory import peak_memory
from fedcomp.codecs import decode_update, parse_codec
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedcomp.codecs import ByteLedger
    from fedcomp.types import ModelDelta, NDArray

TOP_1_PER_CENT = "topk(density=0.01) | ternary"
DEFAULT_CODECS = (
    "lossless",
    "q8",
    "q4",
    "thin",
    "ultra",
    TOP_1_PER_CENT,
    "topk(density=0.0025) | ternary",
    "uniform(bits=6)",
    "uniform(bits=4)",
    "deadzone(step=1)",
    "rotate | sign(unbiased=true)",
    "rotate | eden(bits=2)",
)
_REPEATS = 15


@dataclass(frozen=True, slots=True)
class CodecResult:
    """One codec on one update.

    Args:
        codec: Its text, or the preset's name.
        delta: The update's name.
        num_bytes: The frame's length.
        times_smaller: Than float32.
        bits_per_parameter: Of the whole frame.
        header_bytes: Header, section table and checksum.
        positions_over_entropy: Bytes of the positions, and of what is told of rows and columns for them, over
            ``n h(k / n)``, the bound for an i.i.d. mask; None if dense.
        nmse: Squared error over squared norm.
        encode_over_memcpy: Median time to encode over the median time to copy the same floats.
        decode_over_memcpy: The same for decoding and adding into a running sum.
        encode_gigabytes_per_second: float32 bytes in, a second. The machine's, not the codec's alone.
        decode_gigabytes_per_second: float32 bytes out, a second.
        encode_memory: Peak growth of resident memory while encoding, over the update's bytes; None if not to be had.
        decode_memory: The same while decoding and accumulating.
    """

    codec: str
    delta: str
    num_bytes: int
    times_smaller: float
    bits_per_parameter: float
    header_bytes: int
    positions_over_entropy: float | None
    nmse: float
    encode_over_memcpy: float
    decode_over_memcpy: float
    encode_gigabytes_per_second: float
    decode_gigabytes_per_second: float
    encode_memory: float | None
    decode_memory: float | None


def synthetic_deltas(num_parameters: int) -> dict[str, ModelDelta]:
    """Return i.i.d. Laplace and Gauss updates, as one tensor each."""
    rng = derive_rng(0, "benchmark")
    return {
        "laplace": {"w": (rng.laplace(size=num_parameters) * 1e-3).astype(np.float32)},
        "gauss": {"w": (rng.normal(size=num_parameters) * 1e-3).astype(np.float32)},
    }


def benchmark_codecs(deltas: dict[str, ModelDelta], codecs: Sequence[str] = DEFAULT_CODECS) -> list[CodecResult]:
    """Measure every codec on every update; each timing is taken in turns with a copy of the same floats."""
    return [_measure(text, name, delta) for name, delta in deltas.items() for text in codecs]


def _measure(text: str, name: str, delta: ModelDelta) -> CodecResult:
    codec, spec = parse_codec(text), ModelSpec.of(delta)
    flat = np.concatenate([values.reshape(-1) for values in delta.values()])
    rng = derive_rng(0, "codec")
    encoded = codec.encode(delta, rng=rng)
    total = {tensor.name: np.full(tensor.size, 0.0) for tensor in spec}  # written to, unlike zeros: resident

    def encode() -> None:
        codec.encode(delta, rng=rng)

    def decode() -> None:
        decode_update(encoded.frame, spec).add_to(total, 1.0)

    encode_ratio, encode_seconds = _against_memcpy(encode, flat)
    decode_ratio, decode_seconds = _against_memcpy(decode, flat)
    received = decode_update(encoded.frame, spec)
    restored = np.concatenate([values.reshape(-1) for values in received.to_delta().values()])
    count = None if received.positions is None else received.positions.size
    return CodecResult(
        codec=text,
        delta=name,
        num_bytes=len(encoded.frame),
        times_smaller=flat.nbytes / len(encoded.frame),
        bits_per_parameter=8 * len(encoded.frame) / flat.size,
        header_bytes=encoded.ledger.header,
        positions_over_entropy=None if count is None else _positions_over_entropy(encoded.ledger, count, flat.size),
        nmse=float(np.square(flat - restored, dtype=np.float64).sum() / np.square(flat, dtype=np.float64).sum()),
        encode_over_memcpy=encode_ratio,
        decode_over_memcpy=decode_ratio,
        encode_gigabytes_per_second=flat.nbytes / encode_seconds / 1e9,
        decode_gigabytes_per_second=flat.nbytes / decode_seconds / 1e9,
        encode_memory=_share(peak_memory(encode), flat.nbytes),
        decode_memory=_share(peak_memory(decode), flat.nbytes),
    )


def _positions_over_entropy(ledger: ByteLedger, count: int, size: int) -> float:
    share = np.clip(count / size, 1e-12, 1 - 1e-12)
    entropy = -size * (share * np.log2(share) + (1 - share) * np.log2(1 - share)) / 8
    return float((ledger.positions + ledger.activity) / entropy)


def _against_memcpy(act: Callable[[], None], flat: NDArray) -> tuple[float, float]:
    """Return the median time of `act` over that of a copy of `flat`, and the former in seconds."""
    target = np.empty_like(flat)
    act()
    times, copies = [], []
    for _ in range(_REPEATS):
        times.append(_seconds(act))
        copies.append(_seconds(lambda: np.copyto(target, flat)))
    return statistics.median(times) / statistics.median(copies), statistics.median(times)


def _seconds(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _share(part: int | None, whole: int) -> float | None:
    return None if part is None else part / whole
