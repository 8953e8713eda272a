"""What the codecs promise, against what a run of the benchmark has measured."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.benchmarks.codecs import TOP_1_PER_CENT
from fedcomp.benchmarks.peers import DEEP_CABAC, GZIP_FLOATS, OURS, PLAIN_PAIRS
from fedcomp.codecs.stages.rotate import block_cuts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fedcomp.benchmarks.codecs import CodecResult
from fedcomp.benchmarks.peers import PeerResult

_IID = ("laplace", "gauss")
_DENSE = ("q8", "uniform(bits=6)", "uniform(bits=4)", "q4", "uniform(bits=4, stochastic=true)")


class Bar(NamedTuple):
    """A promise.

    Args:
        what: Of what.
        promise: In words.
        measured: The worst figures, in words.
        is_met: Whether all of them keep it.
    """

    what: str
    promise: str
    measured: str
    is_met: bool


def check_bars(results: Sequence[CodecResult], peers: Sequence[tuple[str, PeerResult]]) -> list[Bar]:
    """Return the bars that these results tell something about.

    Args:
        results: Of codecs.
        peers: (the update's name, the peer's result).
    """
    dense = [r for r in results if r.codec in _DENSE]
    thin = [r for r in results if r.codec == TOP_1_PER_CENT]
    one_bit = [r for r in results if r.codec == "rotate | sign(unbiased=true)"]
    ours = [p for _, p in peers if p.peer == OURS]
    bars = [
        at_most("dense symbols, bytes over order-0 entropy", 1.01, (p.over_entropy for p in ours)),
        _fast("dense, encode", dense, 1.0, 20, lambda r: (r.encode_gigabytes_per_second, r.encode_over_memcpy)),
        _fast("dense, decode and add", dense, 2.0, 10, lambda r: (r.decode_gigabytes_per_second, r.decode_over_memcpy)),
        at_most("top 1 % ternary, encode over memcpy", 60, (r.encode_over_memcpy for r in thin)),
        at_most("top 1 % ternary, decode and add over memcpy", 10, (r.decode_over_memcpy for r in thin)),
        at_most("positions over h(p), i.i.d.", 1.02, (r.positions_over_entropy for r in thin if r.delta in _IID)),
        at_most("header and checks of a sparse update, bytes", 64, (r.header_bytes for r in thin)),
        at_most("one rotated bit, squared error over pi/2 - 1", 1.02, (r.nmse / (pi / 2 - 1) for r in one_bit)),
        at_most("rotation, padded length of 1.2 million", 1.02, [block_cuts(1_200_000).size / 1_200_000]),
        at_most("memory to encode, over the update", 4, (r.encode_memory for r in results)),
        at_most("memory to decode and add, over the update", 3, (r.decode_memory for r in results)),
        _less("than DeepCABAC, bytes", 1.0, peers, DEEP_CABAC, lambda p: p.over_fedcomp),
        _less("than DeepCABAC, time", 1 / 50, peers, DEEP_CABAC, lambda p: p.time_over_fedcomp),
        _less("than gzip over float32, bytes", 0.6, peers, GZIP_FLOATS, lambda p: p.over_fedcomp),
        _less("than int64 + float32, bytes", 0.08, peers, PLAIN_PAIRS, lambda p: p.over_fedcomp),
    ]
    return [bar for bar in bars if bar]


def at_most(what: str, limit: float, values: Iterable[float | None]) -> Bar | None:
    """Return the bar that the largest of some values keeps to a limit; None if there is none to tell."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    worst = float(np.max(found))  # NaN if one is, unlike the built-in max
    return Bar(what, f"<= {limit:g}", f"{worst:.4g}", worst <= limit)


def at_least(what: str, limit: float, values: Iterable[float | None]) -> Bar | None:
    """Return the bar that the smallest of some values keeps to a limit; None if there is none to tell."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    worst = float(np.min(found))  # as above
    return Bar(what, f">= {limit:g}", f"{worst:.4g}", worst >= limit)


def _fast(
    what: str,
    results: Sequence[CodecResult],
    gigabytes: float,
    copies: float,
    measure: Callable[[CodecResult], tuple[float, float]],
) -> Bar | None:
    if not results:
        return None
    slowest = min(results, key=lambda r: max(measure(r)[0] / gigabytes, copies / measure(r)[1]))
    speed, ratio = measure(slowest)
    promise = f">= {gigabytes:g} GB/s or <= {copies:g} memcpy"
    measured = f"{speed:.3g} GB/s, {ratio:.3g} memcpy ({slowest.codec}, {slowest.delta})"
    return Bar(what, promise, measured, speed >= gigabytes or ratio <= copies)


def _less(
    what: str,
    limit: float,
    peers: Sequence[tuple[str, PeerResult]],
    peer: str,
    measure: Callable[[PeerResult], float | None],
) -> Bar | None:
    shares = [(1 / value, f"{p.what}, {name}") for name, p in peers if p.peer == peer and (value := measure(p))]
    if not shares:
        return None
    worst, where = max(shares)
    promise = f"<= {limit:g}" if limit != 1 else "< 1"
    is_met = worst < 1 if limit == 1 else worst <= limit
    return Bar(f"less {what}", promise, f"{worst:.3g} ({where}); best {min(shares)[0]:.3g}", is_met)
