"""The codec: leave out, keep, sparsify, transform, quantize, entropy-code."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.codecs.coding.entropy import compress
from fedcomp.codecs.coding.sections import code_positions, code_signs, code_values
from fedcomp.codecs.decoder import decode_transformed
from fedcomp.codecs.groups import root_mean_square
from fedcomp.codecs.layout import flatten_finite, flatten_integers, layout_of
from fedcomp.codecs.ledger import ByteLedger
from fedcomp.codecs.rate import fit_budget
from fedcomp.codecs.stage import Fitted, Relative, Scalable
from fedcomp.codecs.stages.balance import Balance, multiply_tensors
from fedcomp.codecs.stages.keep import Keep
from fedcomp.codecs.stages.trainable import Trainable
from fedcomp.codecs.stages.warmup import Warmup
from fedcomp.errors import UsageError, WrongCodec
from fedcomp.types import ModelSpec
from fedcomp.wire import (
    OWN_FRAMES,
    Binding,
    Frame,
    Section,
    SectionKind,
    StageHeader,
    read_frame,
    write_frame,
)

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.context import CodingContext
    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.known import Known
    from fedcomp.codecs.stage import Arrays, Quantizer, Sparsifier, Stage, Transform
    from fedcomp.types import ModelDelta, NDArray


class EncodedUpdate(NamedTuple):
    """One update, ready to send: the frame's bytes, and what each of them is for."""

    frame: bytes
    ledger: ByteLedger


@dataclass(frozen=True)
class Codec:
    """How an update becomes bytes. Immutable and stateless: randomness and context come in as arguments.

    Args:
        quantizer: Turns values into symbols.
        sparsifier: Chooses coordinates; None sends all.
        keep: Which small tensors stay plain floats.
        transform: Applied to the values before they are quantized; None leaves them.
        trainable: Leaves out tensors that did not change; None sends them too.
        balance: Codes tensors with small updates more finely; None codes all alike.
        warmup: Makes the sparsifier denser in the first rounds.

    Raises:
        UsageError: A stage lacks another one that it needs, or can't stand behind one.
    """

    quantizer: Quantizer
    sparsifier: Sparsifier | None = None
    keep: Keep = field(default_factory=lambda: Keep(below=0))
    transform: Transform | None = None
    trainable: Trainable | None = None
    balance: Balance | None = None
    warmup: Warmup | None = None

    def __post_init__(self) -> None:
        quantizer, transform = self.quantizer, self.transform
        if quantizer.needs_sparsifier and self.sparsifier is None:
            raise UsageError(f"{quantizer.name} needs a sparsifier before it, as in 'topk(density=0.01) | ternary'")
        if transform and transform.needs_whole_tensors and self.sparsifier:
            raise UsageError(f"{transform.name} can't stand behind {self.sparsifier.name}: it needs whole tensors")
        if self.warmup and not Warmup.applies_to(self.sparsifier):
            raise UsageError("warmup needs a sparsifier with a density behind it")

    @property
    def is_unbiased(self) -> bool:
        """Whether the expectation of what is decoded is the update, up to float32's rounding."""
        return all(stage.is_unbiased for stage in self._stages())

    @property
    def error_bound(self) -> float:
        """Bound of the squared error over the update's squared norm; see `Stage.error_bound`."""
        if self.transform and not self.transform.preserves_norm and self.quantizer.error_bound > 0:
            return inf
        if self.balance and self.quantizer.error_bound > 0:
            return inf
        return max(stage.error_bound for stage in self._stages())

    @property
    def is_stateless(self) -> bool:
        """Whether an update is encoded the same whatever was sent before; else `encode` takes the frame before it."""
        return self.transform is None or self.transform.is_stateless

    def __str__(self) -> str:
        """The codec's text: `parse_codec` reads it back."""
        return " | ".join(_stage_text(stage) for stage in self._stages() if stage != Keep(below=0))

    def _for_round(self, context: CodingContext | None) -> Codec:
        """Return the codec as its warm-up has it in the context's round."""
        if not (self.warmup and self.sparsifier and context):
            return self
        return replace(self, sparsifier=self.warmup.adjust(self.sparsifier, context.round))

    def _for_share(self, fresh_share: float) -> Codec:
        """Return the codec for an update of whose rms this share is fresh: relative stages are rescaled."""
        quantizer, sparsifier = self.quantizer, self.sparsifier
        if isinstance(quantizer, Relative):
            quantizer = quantizer.rescaled(fresh_share)
        if isinstance(sparsifier, Relative):
            sparsifier = sparsifier.rescaled(fresh_share)
        return replace(self, quantizer=quantizer, sparsifier=sparsifier)

    def _scaled(self, amount: float) -> Codec:
        """Return the codec that sends about `amount` times as much."""
        if amount == 1:
            return self
        sparsifier, quantizer = self.sparsifier, self.quantizer
        if isinstance(sparsifier, Scalable):
            return replace(self, sparsifier=sparsifier.scaled(amount))
        if isinstance(quantizer, Scalable):
            return replace(self, quantizer=quantizer.scaled(amount))
        return self

    @property
    def is_scalable(self) -> bool:
        """Whether there is a stage that can be made to send more or less: what a budget needs."""
        return isinstance(self.sparsifier, Scalable) or isinstance(self.quantizer, Scalable)

    def check_scalable(self) -> None:
        """Raise `UsageError` if this codec can not keep to a budget."""
        if not self.is_scalable:
            raise UsageError(f"{self} can't keep to a budget: it has neither a sparsifier nor deadzone")

    def _stages(self) -> list[Stage]:
        stages: tuple[Stage | None, ...] = (
            self.trainable,
            self.keep,
            self.balance,
            self.warmup,
            self.sparsifier,
            self.transform,
            self.quantizer,
        )
        return [stage for stage in stages if stage]

    def encode(
        self,
        delta: ModelDelta,
        *,
        rng: Generator | None = None,
        context: CodingContext | None = None,
        previous: bytes | None = None,
        fresh: ModelDelta | None = None,
        budget: int | None = None,
    ) -> EncodedUpdate:
        """Encode one update.

        Args:
            delta: Local minus global, every value finite.
            rng: For stochastic stages only.
            context: The moment the update belongs to; without it the frame is bound to none.
            previous: The frame that this sender encoded last, for codecs that are not stateless; one of another model
                or codec is passed over.
            fresh: What of `delta` is new, where it holds a residual, too. Steps and thresholds in root mean squares
                then are in those of `fresh`: in those of the sum they would grow with the residual, which would grow
                in turn, until next to nothing is sent.
            budget: Most bytes that the frame may have: then steps, thresholds and densities are scaled until it has
                little less.

        Raises:
            EncodeError: A tensor is no array of numbers, a value is not finite, or an integer does not fit 64 bits.
            UsageError: A stochastic stage has no rng, or the budget is too small, or no stage can be scaled.
        """
        if budget is not None:
            self.check_scalable()
        spec = ModelSpec.of(delta)
        frozen = self.trainable.find_frozen(delta) if self.trainable else frozenset[int]()
        layout = layout_of(spec, self.keep.below, frozen)
        values = flatten_finite(layout.coded, delta)
        kept = self.keep.narrow(flatten_finite(layout.kept, delta))
        integers = flatten_integers(layout.integers, delta)
        stages = [StageHeader(Trainable.wire_id, Trainable.wire_args(frozen))] if frozen else []
        if self.keep.below:
            stages.append(StageHeader(self.keep.wire_id, (self.keep.below, kept.itemsize * 8)))
        fresh_values = None
        if fresh is not None and any(isinstance(stage, Relative) for stage in self._stages()):
            fresh_values = flatten_finite(layout.coded, fresh)
        if self.balance:
            octaves = self.balance.find_octaves(values, layout.coded.cuts)
            stages.append(StageHeader(self.balance.wire_id, octaves))
            values = multiply_tensors(values, layout.coded.bounds, octaves, sign=1)
            if fresh_values is not None:
                fresh_values = multiply_tensors(fresh_values, layout.coded.bounds, octaves, sign=1)
        plain = _plain_sections({SectionKind.KEPT_FLOATS: kept, SectionKind.KEPT_INTS: integers})
        codec = self._for_round(context)
        if fresh_values is not None:
            codec = codec._for_share(_fresh_share(fresh_values, values))
        before = None if self.is_stateless or previous is None else decode_transformed(previous, spec)
        known = context.known(layout.coded) if context else None
        binding = context.binding if context else Binding()
        prepare = functools.partial(
            Codec._prepare, values=values, cuts=layout.coded.cuts, rng=rng, before=before, known=known
        )
        prepared = prepare(codec)

        def write(amount: float) -> bytes:
            scaled = codec._scaled(amount)
            ready = prepared if scaled.sparsifier == codec.sparsifier else prepare(scaled)
            more_stages, sections = scaled._quantize(ready, rng)
            sections = sorted(plain + sections, key=lambda section: section.kind)
            return write_frame(Frame(binding, spec.fingerprint, (*stages, *more_stages), tuple(sections)))

        data = write(1.0) if budget is None else fit_budget(write, budget)
        return EncodedUpdate(data, ByteLedger.of(read_frame(data, OWN_FRAMES), len(data)))

    def _prepare(
        self, values: NDArray, cuts: Cuts, rng: Generator | None, before: NDArray | None, known: Known | None
    ) -> _Prepared:
        """Sparsify and transform a flat vector."""
        stages, sections = [], []
        if self.sparsifier:
            moved = known.since_first if known else None
            positions, values, seed = self.sparsifier.select(values, cuts, rng, moved=moved)
            if seed is None:
                sections += code_positions(positions, cuts, moved)
            cuts = cuts.at(positions)
            count = (positions.size,) if seed is None else (positions.size, seed)
            stages.append(StageHeader(self.sparsifier.wire_id, count))
        if self.transform:
            values, key = self.transform.apply(values, cuts, rng=rng, previous=before, known=known)
            cuts = self.transform.cuts_after(cuts, key)
            stages.append(StageHeader(self.transform.wire_id, key))
        return _Prepared(values, cuts, tuple(stages), tuple(sections))

    def _quantize(self, prepared: _Prepared, rng: Generator | None) -> tuple[list[StageHeader], list[Section]]:
        """Quantize and entropy-code what is prepared."""
        quantizer = self.quantizer.fitted(prepared.values) if isinstance(self.quantizer, Fitted) else self.quantizer
        arrays = dict(quantizer.quantize(prepared.values, prepared.cuts, rng))
        stages = [*prepared.stages, StageHeader(quantizer.wire_id, quantizer.wire_args())]
        symbols = arrays.pop(SectionKind.VALUES, None)
        coded = code_values(symbols, None if self.sparsifier else prepared.cuts, quantizer.centre)
        if self.sparsifier and not self.transform and prepared.values.size and SectionKind.SIGNS in arrays:
            coded.append(code_signs(arrays.pop(SectionKind.SIGNS), prepared.cuts))
        return stages, [*prepared.sections, *coded, *_plain_sections(arrays)]

    def check_stages(self, headers: tuple[StageHeader, ...]) -> None:
        """Raise `WrongCodec` unless a frame's stages are those that this codec writes."""
        # What is fitted to the values has arguments that its own `from_wire` checks.
        own_args = () if isinstance(self.quantizer, Fitted) else self.quantizer.wire_args()
        asked: list[tuple[int, tuple[int, ...]]] = [(self.quantizer.wire_id, own_args)]
        asked[:0] = [(stage.wire_id, ()) for stage in (self.balance, self.sparsifier, self.transform) if stage]
        if self.keep.below:
            asked.insert(0, (self.keep.wire_id, (self.keep.below,)))
        found = [header for header in headers if not (self.trainable and header.id == Trainable.wire_id)]
        as_asked = [id_ for id_, _ in asked] == [header.id for header in found] and all(
            header.args[: len(args)] == args for header, (_, args) in zip(found, asked, strict=True)
        )
        if as_asked and self.transform:
            as_asked = self.transform.writes(found[-2].args)
        if not as_asked:
            raise WrongCodec(f"frame has stages {[(s.id, *s.args) for s in headers]}, expected those of {self}")


class _Prepared(NamedTuple):
    """An update up to its quantizer: what is left to quantize, and what of the frame is there already."""

    values: NDArray
    cuts: Cuts
    stages: tuple[StageHeader, ...]
    sections: tuple[Section, ...]


def _plain_sections(arrays: Arrays) -> list[Section]:
    return [Section(kind, *compress(array)) for kind, array in arrays.items() if array.size]


def _fresh_share(fresh: NDArray, total: NDArray) -> float:
    """Return the rms of what is new over that of all, 1 if nothing is new and at least a quarter.

    A client whose updates fade would else send all that has gathered at a precision that nobody needs.
    """
    parts = root_mean_square(fresh), root_mean_square(total)
    return max(parts[0] / parts[1], 1 / 4) if all(parts) else 1.0


def _stage_text(stage: Stage) -> str:
    changed = [f for f in fields(stage) if getattr(stage, f.name) != f.default]
    arguments = ", ".join(f"{f.name}={str(getattr(stage, f.name)).lower()}" for f in changed)
    return f"{stage.name}({arguments})" if arguments else stage.name
