"""What a search may change about a student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcomp.config import STUDENT_BITS
from fedcomp.errors import UsageError
from fedcomp.student import layer_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from torch import nn

    from fedcomp.config import RunConfig

_WIDTH, _BITS = "width", "bits "
_NARROWEST, _WIDEST = 0.05, 4.0
_FEWEST_WEIGHTS = 256
"""Of a layer whose bits are searched: of fewer there is next to nothing to save."""


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Width, pruned channels, quantization, bits of single layers, temperature and hard labels of a student.

    Args:
        narrowest: Width of the architecture, 0.05 or more.
        widest: The same, 4 or less.
        bits: That a quantized layer's weights can have, the most first.

    Raises:
        UsageError: The widths are out of range or in the wrong order, or no layer can have such bits.
    """

    narrowest: float = 0.25
    widest: float = 1.5
    bits: tuple[int, ...] = STUDENT_BITS

    def __post_init__(self) -> None:
        if not _NARROWEST <= self.narrowest <= self.widest <= _WIDEST:
            found = f"widths from {self.narrowest:g} to {self.widest:g}"
            raise UsageError(f"{found} can not be searched, expected {_NARROWEST:g} to {_WIDEST:g} in ascending order")
        if not self.bits or not set(self.bits) <= set(STUDENT_BITS):
            some, known = (", ".join(map(str, bits)) or "none" for bits in (self.bits, STUDENT_BITS))
            raise UsageError(f"a layer's bits can not be {some}, expected some of {known}")
        object.__setattr__(self, "bits", tuple(sorted(set(self.bits), reverse=True)))

    def layers(self, student: nn.Module) -> list[str]:
        """Return the names of the weights whose bits are searched: of the layers of some size."""
        return [name for name in layer_names(student) if student.get_parameter(name).numel() >= _FEWEST_WEIGHTS]

    def distributions(self, layers: Sequence[str]) -> dict[str, BaseDistribution]:
        """Return what Optuna samples from, by parameter.

        Args:
            layers: Whose bits are searched.
        """
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            _WIDTH: FloatDistribution(self.narrowest, self.widest),
            "student-prune": FloatDistribution(0.0, 0.6, step=0.1),
            "student-quantize": CategoricalDistribution(("ptq", "none")),
            "temperature": FloatDistribution(1.0, 8.0, step=0.5),
            "hard-label-weight": FloatDistribution(0.0, 0.5, step=0.1),
            **{f"{_BITS}{layer}": CategoricalDistribution(self.bits) for layer in layers},
        }

    def starting_points(self, layers: Sequence[str], paths: Sequence[Mapping[str, int]] = ()) -> list[dict[str, Any]]:
        """Return what is tried first.

        A quantized student of middle width as everybody would make it; the same one with fewer bits; then others of the
        narrowest and the widest, and a pruned one.

        Args:
            layers: Whose bits are searched.
            paths: Bits by layer, of students with fewer.
        """
        plain = {"student-prune": 0.0, "student-quantize": "ptq", "temperature": 3.0, "hard-label-weight": 0.0}
        plain |= {f"{_BITS}{layer}": self.bits[0] for layer in layers}
        first = {_WIDTH: (self.narrowest + self.widest) / 2, **plain}
        fewer = [first | {f"{_BITS}{layer}": width for layer, width in bits.items()} for bits in paths]
        others = [{**first, _WIDTH: width} for width in (self.narrowest, self.widest) if width != first[_WIDTH]]
        return [first, *fewer, *others, {**first, _WIDTH: self.widest, "student-prune": 0.3}]

    @staticmethod
    def changes(config: RunConfig, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a run's configuration that sampled parameters stand for.

        Args:
            config: Names the architecture; its arguments but the width stay.
            params: By the names of `distributions`.
        """
        # Multiples of a step are no short decimals in binary.
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in params.items()}
        base, _, arguments = config.student_model.rstrip(") ").partition("(")
        others = [pair.strip() for pair in arguments.split(",") if pair.strip() and not pair.strip().startswith(_WIDTH)]
        model = f"{base.strip()}({', '.join([f'{_WIDTH}={rounded.pop(_WIDTH)}', *others])})"
        bits = {key.removeprefix(_BITS): rounded.pop(key) for key in list(rounded) if key.startswith(_BITS)}
        fewer = [f"{layer}={width}" for layer, width in bits.items() if width < max(STUDENT_BITS)]
        is_quantized = rounded["student-quantize"] != "none"
        return {"student-model": model, **rounded, "student-bits": ", ".join(fewer) if is_quantized else ""}
