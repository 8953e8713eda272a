"""What a search may change about a student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution

    from fedcomp.config import RunConfig

_WIDTH = "width"
_NARROWEST, _WIDEST = 0.05, 4.0


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Width, pruned channels, quantization, temperature and hard labels of a student.

    Args:
        narrowest: Width of the architecture, 0.05 or more.
        widest: The same, 4 or less.

    Raises:
        UsageError: The widths are out of range or in the wrong order.
    """

    narrowest: float = 0.25
    widest: float = 1.5

    def __post_init__(self) -> None:
        if not _NARROWEST <= self.narrowest <= self.widest <= _WIDEST:
            found = f"widths from {self.narrowest:g} to {self.widest:g}"
            raise UsageError(f"{found} can not be searched, expected {_NARROWEST:g} to {_WIDEST:g} in ascending order")

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return what Optuna samples from, by parameter."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            _WIDTH: FloatDistribution(self.narrowest, self.widest),
            "student-prune": FloatDistribution(0.0, 0.6, step=0.1),
            "student-quantize": CategoricalDistribution(("ptq", "none")),
            "temperature": FloatDistribution(1.0, 8.0, step=0.5),
            "hard-label-weight": FloatDistribution(0.0, 0.5, step=0.1),
        }

    def starting_points(self) -> list[dict[str, Any]]:
        """Return what is tried first: int8 students of three widths as everybody would make them, and a pruned one."""
        plain = {"student-prune": 0.0, "student-quantize": "ptq", "temperature": 3.0, "hard-label-weight": 0.0}
        middle = (self.narrowest + self.widest) / 2
        widths = dict.fromkeys((middle, self.narrowest, self.widest))
        return [*({_WIDTH: width, **plain} for width in widths), {_WIDTH: self.widest, **plain, "student-prune": 0.3}]

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
        return {"student-model": model, **rounded}
