"""What a codec stage is: its parameters, its wire id, and the roles a stage can have."""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.known import Known
    from fedcomp.codecs.products import Factored
    from fedcomp.types import NDArray
    from fedcomp.wire import SectionKind

Arrays: TypeAlias = "Mapping[SectionKind, NDArray]"
"""What a quantizer puts on the wire, before entropy coding."""


class ArraySpec(NamedTuple):
    """Element type and count of one section: known to the receiver before it decompresses anything."""

    dtype: str
    length: int


class ParameterError(UsageError):
    """A stage parameter out of its range; `name` says which."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Stage(Protocol):
    """A frozen dataclass whose fields, made with `parameter`, are what the codec text may set."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def is_unbiased(self) -> bool:
        """Whether the expectation of the output is the input."""
        ...

    @property
    def error_bound(self) -> float:
        """Bound of the squared error over the input's squared norm: 0 exact, 1 contracts, infinite if there is none.

        Error feedback converges with any that contracts (Karimireddy et al. 2019, assumption A); an unbiased one
        needs no feedback.
        """
        ...


class Selection(NamedTuple):
    """What a sparsifier chose.

    Args:
        positions: Coordinates, int64, strictly increasing.
        values: float32, one a position.
        seed: From which a receiver draws the same positions; None if they must be sent.
    """

    positions: NDArray
    values: NDArray
    seed: int | None = None


class WireStage(Stage, Protocol):
    """A stage that a frame names."""

    wire_id: ClassVar[int]


class Sparsifier(WireStage, Protocol):
    """Chooses which coordinates travel; `cuts` says where tensors and channels begin.

    Where positions are not sent, the seed that they are drawn from is.
    """

    sends_positions: ClassVar[bool]

    def select(self, values: NDArray, cuts: Cuts, rng: Generator | None, *, moved: NDArray | None = None) -> Selection:
        """Choose from `values`.

        Args:
            values: float32, flat, finite.
            cuts: Where tensors and channels begin in them.
            rng: For a random choice.
            moved: How far each coordinate of the model has moved, as far as both ends know: what a position costs.
        """
        ...


class Transform(WireStage, Protocol):
    """Rewrites values into others that are cheaper to quantize; a few integers, its key, tell how to come back."""

    is_stateless: ClassVar[bool]
    preserves_norm: ClassVar[bool]
    needs_whole_tensors: ClassVar[bool]

    def apply(
        self,
        values: NDArray,
        cuts: Cuts,
        *,
        rng: Generator | None = None,
        previous: NDArray | None = None,
        known: Known | None = None,
    ) -> tuple[NDArray, tuple[int, ...]]:
        """Return (new values, key).

        Args:
            values: float32, flat, finite.
            cuts: Where tensors and channels begin in them.
            rng: For a random transform.
            previous: What came out last time, as the receiver has it; it may not fit.
            known: What both ends hold.
        """
        ...

    def writes(self, key: tuple[int, ...]) -> bool:
        """Tell whether this is a key that the stage itself may give: a receiver's work depends on it."""
        ...

    @classmethod
    def cuts_after(cls, cuts: Cuts, key: tuple[int, ...]) -> Cuts:
        """Return where the new values are cut, for values with these cuts."""
        ...

    @classmethod
    def invert(cls, values: NDArray, cuts: Cuts, key: tuple[int, ...], known: Known | None) -> NDArray:
        """Return values with these `cuts` from new ones, which may be changed; they may become infinite.

        Raises:
            MissingContext: They were made with the help of something that is not in `known`.
        """
        ...

    @classmethod
    def parse_wire(cls, args: tuple[int, ...]) -> tuple[int, ...]:
        """Return the key from the stage's wire arguments; raises `ValueError` if they are none."""
        ...


class Quantizer(WireStage, Protocol):
    """Turns float32 values into few symbols and back; `cuts` says where tensors and channels begin in them."""

    needs_sparsifier: ClassVar[bool]

    @property
    def centre(self) -> int | None:
        """The symbol that means zero, those below are negative; None if there is no such order."""
        ...

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return the sections of these values (float32, finite)."""
        ...

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return what `quantize` gives for `count` values selected from a vector with these cuts."""
        ...

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return float32 values; raises `InvalidValues` for symbols or steps that no encoder writes."""
        ...

    def wire_args(self) -> tuple[int, ...]:
        """Return what the decoder must know of this stage."""
        ...

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage from `wire_args`; raises `ValueError` for arguments of the wrong number or range."""
        ...


@runtime_checkable
class Relative(Protocol):
    """A stage with a parameter in root mean squares of what it is given."""

    def rescaled(self, factor: float) -> Self:
        """Return the stage with that parameter multiplied, as far as its range goes."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """A stage with a knob for how much it sends."""

    def scaled(self, amount: float) -> Self:
        """Return the stage that sends about `amount` times as much, as far as the knob goes; more is never less."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """A quantizer whose wire arguments follow the values."""

    def fitted(self, values: NDArray) -> Self:
        """Return the stage as it is for these values."""
        ...


@runtime_checkable
class Factoring(Protocol):
    """A transform that comes back to products, which many receivers need not expand."""

    @classmethod
    def factor(cls, values: NDArray, cuts: Cuts, key: tuple[int, ...], known: Known | None) -> Factored:
        """Return what `invert` returns when it is expanded."""
        ...


def parameter(
    default: Any = MISSING,
    *,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Declare a stage parameter with its range: a dataclass field that `check_parameters` understands."""
    metadata = {"above": above, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


def check_parameters(stage: Stage) -> None:
    """Raise `ParameterError` for the first parameter of `stage` that is out of its declared range."""
    for declared in fields(stage):
        value, limits = getattr(stage, declared.name), declared.metadata
        if limits["choices"] and value not in limits["choices"]:
            expected = "one of " + ", ".join(map(str, limits["choices"]))
        elif limits["above"] is not None and not value > limits["above"]:
            expected = f"more than {limits['above']}"
        elif limits["minimum"] is not None and not value >= limits["minimum"]:
            expected = f"at least {limits['minimum']}"
        elif limits["maximum"] is not None and not value <= limits["maximum"]:
            expected = f"at most {limits['maximum']}"
        else:
            continue
        raise ParameterError(declared.name, f"{stage.name}: {declared.name} is {value}, expected {expected}")
