"""The codec: keep | sparsify | quantize | entropy-code."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.codecs.entropy import compress
from fedcomp.codecs.keep import Keep
from fedcomp.codecs.layout import flatten_finite, layout_of
from fedcomp.codecs.ledger import ByteLedger
from fedcomp.codecs.positions import positions_to_gaps
from fedcomp.codecs.rotate import Rotate, block_cuts, rotate
from fedcomp.errors import UsageError
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
    from fedcomp.codecs.stage import Arrays, Quantizer, Sparsifier, Stage
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
        rotation: Applied to the values before they are quantized; None leaves them.

    Raises:
        UsageError: The quantizer needs a sparsifier and there is none.
    """

    quantizer: Quantizer
    sparsifier: Sparsifier | None = None
    keep: Keep = field(default_factory=lambda: Keep(below=0))
    rotation: Rotate | None = None

    def __post_init__(self) -> None:
        if self.quantizer.needs_sparsifier and self.sparsifier is None:
            raise UsageError(f"{self.quantizer.name} needs a sparsifier before it")

    @property
    def is_unbiased(self) -> bool:
        """Whether the expectation of what is decoded is the update, up to float32's rounding."""
        return all(stage.is_unbiased for stage in self._stages())

    @property
    def error_bound(self) -> float:
        """Bound of the squared error over the update's squared norm; see `Stage.error_bound`."""
        return max(stage.error_bound for stage in self._stages())

    def __str__(self) -> str:
        """The codec's text: `parse_codec` reads it back."""
        return " | ".join(_stage_text(stage) for stage in self._stages() if stage != Keep(below=0))

    def _stages(self) -> list[Stage]:
        sparsifier: list[Stage] = [self.sparsifier] if self.sparsifier else []
        rotation: list[Stage] = [self.rotation] if self.rotation else []
        return [self.keep, *sparsifier, *rotation, self.quantizer]

    def encode(
        self, delta: ModelDelta, *, rng: Generator | None = None, context: CodingContext | None = None
    ) -> EncodedUpdate:
        """Encode one update.

        Args:
            delta: Local minus global, every value finite.
            rng: For stochastic stages only.
            context: The moment the update belongs to; without it the frame is bound to none.

        Raises:
            EncodeError: A value is not finite, or an integer tensor does not fit 64 bits.
            UsageError: A stochastic stage has no rng.
        """
        spec = ModelSpec.of(delta)
        layout = layout_of(spec, self.keep.below)
        kept = self.keep.narrow(flatten_finite(layout.kept, delta))
        arrays: dict[SectionKind, NDArray] = {
            SectionKind.KEPT_FLOATS: kept,
            SectionKind.KEPT_INTS: layout.integers.flatten(delta, "int64"),
        }
        values, cuts, stages = flatten_finite(layout.coded, delta), layout.coded.cuts, []
        if self.keep.below:
            stages.append(StageHeader(self.keep.wire_id, (self.keep.below, kept.itemsize * 8)))
        if self.sparsifier:
            positions, values, seed = self.sparsifier.select(values, cuts, rng)
            cuts = cuts.at(positions)
            if seed is None:
                arrays[SectionKind.POSITIONS] = positions_to_gaps(positions)
            count = (positions.size,) if seed is None else (positions.size, seed)
            stages.append(StageHeader(self.sparsifier.wire_id, count))
        if self.rotation:
            seed = self.rotation.draw_seed(rng)
            stages.append(StageHeader(self.rotation.wire_id, (seed,)))
            cuts, values = block_cuts(values.size), rotate(values, seed)
        arrays |= self.quantizer.quantize(values, cuts, rng)
        stages.append(StageHeader(self.quantizer.wire_id, self.quantizer.wire_args()))
        binding = context.binding if context else Binding()
        frame = Frame(binding, spec.fingerprint, tuple(stages), _code_sections(arrays))
        data = write_frame(frame)
        return EncodedUpdate(data, ByteLedger.of(frame, len(data)))


def _code_sections(arrays: Arrays) -> tuple[Section, ...]:
    return tuple(Section(kind, *compress(arrays[kind])) for kind in sorted(arrays) if arrays[kind].size)


def _stage_text(stage: Stage) -> str:
    changed = [f for f in fields(stage) if getattr(stage, f.name) != f.default]
    arguments = ", ".join(f"{f.name}={str(getattr(stage, f.name)).lower()}" for f in changed)
    return f"{stage.name}({arguments})" if arguments else stage.name
