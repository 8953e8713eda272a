"""`warmup`: denser updates in the first rounds, when most is learnt."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.codecs.stage import check_parameters, parameter

if TYPE_CHECKING:
    from fedcomp.codecs.stage import Sparsifier


@dataclass(frozen=True)
class Warmup:
    """Let the density of the sparsifier behind it fall from `start` to its own over the first rounds, geometrically.

    The round comes with the context that an update is encoded in; without one there is no warm-up. Nothing of it
    travels. ``warmup(rounds=4) | topk(density=0.001)`` is the schedule of the paper: 25, 6.3, 1.6, 0.4 and 0.1 %.

    Args:
        rounds: Until the sparsifier's own density is reached.
        start: Density of the first round, in (0, 1]; a sparsifier that is denser stays as it is.

    References:
        Lin et al., Deep Gradient Compression, ICLR 2018, section 3.3.
    """

    name: ClassVar[str] = "warmup"
    is_unbiased: ClassVar[bool] = True
    error_bound: ClassVar[float] = 0.0

    rounds: int = parameter(minimum=1, maximum=1 << 20)
    start: float = parameter(0.25, above=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_parameters(self)

    @staticmethod
    def applies_to(sparsifier: Sparsifier | type[Sparsifier] | None) -> bool:
        """Tell whether the sparsifier has a density."""
        return sparsifier is not None and "density" in {field.name for field in fields(sparsifier)}

    def adjust(self, sparsifier: Sparsifier, server_round: int) -> Sparsifier:
        """Return the sparsifier for a round, from 1."""
        stage: Any = sparsifier
        progress = min(1.0, (server_round - 1) / self.rounds)
        density = self.start ** (1 - progress) * stage.density**progress
        adjusted: Sparsifier = replace(stage, density=max(density, stage.density))
        return adjusted
