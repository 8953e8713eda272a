"""What it saves that both ends know how the model has moved, on updates of a real training."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.benchmarks.bars import Bar, at_most
from fedcomp.benchmarks.peers import deep_cabac_of_signs
from fedcomp.benchmarks.signals import bytes_by_signal
from fedcomp.benchmarks.updates import draw_clients, training_updates
from fedcomp.codecs import CodingContext, decode_update, parse_codec
from fedcomp.codecs.coding.entropy import Pcodec
from fedcomp.codecs.coding.positions import positions_to_gaps
from fedcomp.codecs.layout import flatten_finite, layout_of
from fedcomp.types import ModelSpec, fingerprint_model, subtract_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.benchmarks.updates import TrainedUpdate
    from fedcomp.config import RunConfig

DENSITIES, MEASURED_ROUNDS = (0.0025, 0.01), (5, 30, 60, 100, 150, 200)
_CLIENTS_A_ROUND, _REPEATS = 3, 3
_OVER_BOUND = {0.0025: 0.5, 0.01: 0.6}


@dataclass(frozen=True, slots=True)
class ContextResult:
    """One update, top-k ternary, coded with and without the models that both ends hold.

    Args:
        density: Share of the coordinates that is sent.
        round: Of the training.
        positions_bytes: With the models.
        over_bound: That over n h(p), what independent positions take.
        over_gaps: That over pcodec on gaps in natural order.
        over_blind: That over fedcomp's own without the models.
        signs_bytes: With and without.
        over_deep_cabac: Positions and signs over NNCodec's bare streams of the same; None if it is not installed.
        over_temporal: The same with its temporal context, given where weights have moved most.
        signals_over_bound: The positions' bytes over n h(p) with one signal at a time, see `bytes_by_signal`.
        known_bytes: Of the same update as `ultra` with the models.
        known_encode_ms: To encode that.
        known_decode_ms: To decode it.
    """

    density: float
    round: int
    positions_bytes: int
    over_bound: float
    over_gaps: float
    over_blind: float
    signs_bytes: int
    over_deep_cabac: float | None
    over_temporal: float | None
    signals_over_bound: dict[str, float]
    known_bytes: int
    known_encode_ms: float
    known_decode_ms: float


def benchmark_context(config: RunConfig, *, densities: Sequence[float], rounds: Sequence[int]) -> list[ContextResult]:
    """Train once for each density, and measure what some clients send in some rounds.

    Args:
        config: Data, model, partition, clients a round and local training; the codec is ``topk | ternary`` with error
            feedback.
        densities: Of that codec.
        rounds: From 1.
    """
    return [result for density in densities for result in _of_density(config, density, sorted(rounds))]


def check_context(results: Sequence[ContextResult]) -> list[Bar]:
    """Return the bars that these results tell something about: means over rounds, as they are promised."""
    by_density = defaultdict(list)
    for result in results:
        by_density[result.density].append(result)
    bars: list[Bar | None] = []
    for density, own in by_density.items():
        limits = {"over_bound": _OVER_BOUND.get(density), "over_gaps": 0.85, "over_temporal": 0.7}
        for name, limit in limits.items():
            found = [value for result in own if (value := getattr(result, name)) is not None]
            if limit and found:
                bars.append(at_most(f"top {density:.2%}, {name.replace('_', ' ')}", limit, [statistics.fmean(found)]))
    bars.append(at_most("ultra, ms to encode", 60, (result.known_encode_ms for result in results)))
    bars.append(at_most("ultra, ms to decode", 40, (result.known_decode_ms for result in results)))
    return [bar for bar in bars if bar]


def mean_signals(results: Sequence[ContextResult]) -> list[dict[str, float]]:
    """Return a row for each density: `ContextResult.signals_over_bound` in the mean over its updates."""
    rows = []
    for density in dict.fromkeys(result.density for result in results):
        own = [result.signals_over_bound for result in results if result.density == density]
        rows.append({"density": density, **{name: statistics.fmean(s[name] for s in own) for name in own[0]}})
    return rows


def _of_density(config: RunConfig, density: float, rounds: Sequence[int]) -> Iterator[ContextResult]:
    config = config.model_copy(update={"codec": f"topk(density={density:g}) | ternary"})
    updates = training_updates(config, num_rounds=rounds[-1], draw=lambda number: draw_clients(config, number))
    measured: dict[int, int] = dict.fromkeys(rounds, 0)
    for update in updates:
        if measured.get(update.server_round, _CLIENTS_A_ROUND) < _CLIENTS_A_ROUND:
            measured[update.server_round] += 1
            yield _measure(update, config.codec, density)


def _measure(update: TrainedUpdate, codec: str, density: float) -> ContextResult:
    spec = ModelSpec.of(update.total)
    known, blind = _context(update, knows=True), _context(update, knows=False)
    with_models, without = (parse_codec(codec).encode(update.total, context=context) for context in (known, blind))
    layout = layout_of(spec, 0)
    received = decode_update(without.frame, spec, context=blind).to_delta()
    sent = flatten_finite(layout.coded, received)
    positions = np.flatnonzero(sent)
    share = positions.size / sent.size
    bound = -sent.size * (share * np.log2(share) + (1 - share) * np.log2(1 - share)) / 8
    gaps = len(Pcodec().encode(positions_to_gaps(positions)))
    ours = with_models.ledger.positions + with_models.ledger.activity
    movement = subtract_models(update.model, update.initial)
    others = deep_cabac_of_signs(
        {
            name: np.sign(values)
            for name, values in decode_update(without.frame, spec, context=blind).to_delta().items()
        },
        moved=movement,
    )
    alone = bytes_by_signal(positions, layout.coded.cuts, flatten_finite(layout.coded, movement))
    num_bytes, encode_seconds, decode_seconds = _time_ultra(update)
    signs = with_models.ledger.signs
    return ContextResult(
        density=density,
        round=update.server_round,
        positions_bytes=ours,
        over_bound=ours / bound,
        over_gaps=ours / gaps,
        over_blind=ours / (without.ledger.positions + without.ledger.activity),
        signs_bytes=signs,
        over_deep_cabac=(ours + signs) / others[0] if others else None,
        over_temporal=(ours + signs) / others[1] if others else None,
        signals_over_bound={name: size / bound for name, size in alone.items()},
        known_bytes=num_bytes,
        known_encode_ms=1000 * encode_seconds,
        known_decode_ms=1000 * decode_seconds,
    )


def _time_ultra(update: TrainedUpdate) -> tuple[int, float, float]:
    """Return the bytes of an update as `ultra` with the models, and the median seconds to encode and to decode it."""
    codec, spec = parse_codec("ultra"), ModelSpec.of(update.total)
    times: list[tuple[float, float]] = []
    for _ in range(_REPEATS):
        sender, receiver = _context(update, knows=True), _context(update, knows=True)
        started = time.perf_counter()
        frame = codec.encode(update.total, context=sender, fresh=update.fresh).frame
        encoded = time.perf_counter()
        decode_update(frame, spec, context=receiver)
        times.append((encoded - started, time.perf_counter() - encoded))
    encode_times, decode_times = zip(*times, strict=True)
    return len(frame), statistics.median(encode_times), statistics.median(decode_times)


def _context(update: TrainedUpdate, *, knows: bool) -> CodingContext:
    """Return a new context: what an earlier one has worked out would make a second call look fast."""
    references = (update.initial,) if knows else ()
    base = fingerprint_model(update.model)
    return CodingContext("benchmark", str(update.client), update.server_round, base, update.model, references)
