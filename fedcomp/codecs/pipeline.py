"""The codec: leave out, keep, sparsify, transform, quantize, entropy-code."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.codecs.decoder import decode_transformed
from fedcomp.codecs.entropy import compress
from fedcomp.codecs.groups import root_mean_square
from fedcomp.codecs.keep import Keep
from fedcomp.codecs.layout import flatten_finite, layout_of
from fedcomp.codecs.ledger import ByteLedger
from fedcomp.codecs.sections import code_positions, code_values
from fedcomp.codecs.stage import Relative
from fedcomp.codecs.trainable import Trainable
from fedcomp.codecs.warmup import Warmup
from fedcomp.errors import UsageError, WrongCodec
from fedcomp.types import ModelSpec
from fedcomp.wire import (
    Binding,
    Frame,
    Section,
    SectionKind,
    StageHeader,
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
        warmup: Makes the sparsifier denser in the first rounds.

    Raises:
        UsageError: A stage lacks another one that it needs, or can't stand behind one.
    """

    quantizer: Quantizer
    sparsifier: Sparsifier | None = None
    keep: Keep = field(default_factory=lambda: Keep(below=0))
    transform: Transform | None = None
    trainable: Trainable | None = None
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

    def _stages(self) -> list[Stage]:
        stages: tuple[Stage | None, ...] = (
            self.trainable,
            self.keep,
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

        Raises:
            EncodeError: A value is not finite, or an integer tensor does not fit 64 bits.
            UsageError: A stochastic stage has no rng.
        """
        spec = ModelSpec.of(delta)
        frozen = self.trainable.find_frozen(delta) if self.trainable else frozenset[int]()
        layout = layout_of(spec, self.keep.below, frozen)
        codec = self._for_round(context)
        if fresh is not None and any(isinstance(stage, Relative) for stage in self._stages()):
            codec = codec._for_share(_fresh_share(*(flatten_finite(layout.coded, part) for part in (fresh, delta))))
        kept = self.keep.narrow(flatten_finite(layout.kept, delta))
        integers = layout.integers.flatten(delta, "int64")
        before = None if self.is_stateless or previous is None else decode_transformed(previous, spec)
        known = context.known(layout.coded) if context else None
        stages, sections = codec._code(flatten_finite(layout.coded, delta), layout.coded.cuts, rng, before, known)
        if self.keep.below:
            stages.insert(0, StageHeader(self.keep.wire_id, (self.keep.below, kept.itemsize * 8)))
        if frozen:
            stages.insert(0, StageHeader(Trainable.wire_id, Trainable.wire_args(frozen)))
        sections += _plain_sections({SectionKind.KEPT_FLOATS: kept, SectionKind.KEPT_INTS: integers})
        sections.sort(key=lambda section: section.kind)
        binding = context.binding if context else Binding()
        frame = Frame(binding, spec.fingerprint, tuple(stages), tuple(sections))
        data = write_frame(frame)
        return EncodedUpdate(data, ByteLedger.of(frame, len(data)))

    def _code(
        self, values: NDArray, cuts: Cuts, rng: Generator | None, before: NDArray | None, known: Known | None
    ) -> tuple[list[StageHeader], list[Section]]:
        """Sparsify, transform, quantize and entropy-code a flat vector."""
        stages, sections = [], []
        if self.sparsifier:
            positions, values, seed = self.sparsifier.select(values, cuts, rng)
            if seed is None:
                sections += code_positions(positions, cuts)
            cuts = cuts.at(positions)
            count = (positions.size,) if seed is None else (positions.size, seed)
            stages.append(StageHeader(self.sparsifier.wire_id, count))
        if self.transform:
            values, key = self.transform.apply(values, cuts, rng=rng, previous=before, known=known)
            cuts = self.transform.cuts_after(cuts, key)
            stages.append(StageHeader(self.transform.wire_id, key))
        arrays = dict(self.quantizer.quantize(values, cuts, rng))
        stages.append(StageHeader(self.quantizer.wire_id, self.quantizer.wire_args()))
        symbols = arrays.pop(SectionKind.VALUES, None)
        sections += code_values(symbols, None if self.sparsifier else cuts, self.quantizer.centre)
        return stages, sections + _plain_sections(arrays)

    def check_stages(self, headers: tuple[StageHeader, ...]) -> None:
        """Raise `WrongCodec` unless a frame's stages are those that this codec writes."""
        asked: list[tuple[int, tuple[int, ...]]] = [(self.quantizer.wire_id, self.quantizer.wire_args())]
        asked[:0] = [(stage.wire_id, ()) for stage in (self.sparsifier, self.transform) if stage]
        if self.keep.below:
            asked.insert(0, (self.keep.wire_id, (self.keep.below,)))
        found = [header for header in headers if not (self.trainable and header.id == Trainable.wire_id)]
        as_asked = [id_ for id_, _ in asked] == [header.id for header in found] and all(
            header.args[: len(args)] == args for header, (_, args) in zip(found, asked, strict=True)
        )
        if not as_asked:
            raise WrongCodec(f"frame has stages {[(s.id, *s.args) for s in headers]}, expected those of {self}")


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
