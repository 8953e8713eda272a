"""How many pseudo-labels were made and how many are right: counted at clients, added up at the server."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import torch

from fedcomp.data import UNLABELLED
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_PREFIX = "pseudo-"
_MOST = 10**9
"""More examples than any client has: sums stay exact."""


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Counts of guesses; an example counts each time that it is guessed.

    Where the truth is known it measures the guesses, and takes part in nothing else.

    Args:
        guessed: Examples that could have had a pseudo-label.
        trusted: Those that had one.
        known: By true class: examples whose truth is known.
        known_trusted: Of these, by true class: those that had one.
        right: Of these, by true class: those whose pseudo-label is the truth.
    """

    guessed: int
    trusted: int
    known: tuple[int, ...]
    known_trusted: tuple[int, ...]
    right: tuple[int, ...]

    @classmethod
    def none(cls, num_classes: int) -> Self:
        """Return the counts of no example."""
        zeros = (0,) * num_classes
        return cls(0, 0, zeros, zeros, zeros)

    @classmethod
    def count(cls, guesses: Tensor, is_trusted: Tensor, truth: Tensor, num_classes: int) -> Self:
        """Count a batch.

        Args:
            guesses: int64, (B,).
            is_trusted: bool, (B,).
            truth: int64, (B,); `UNLABELLED` where it is not known.
            num_classes: Of the run.
        """
        is_known = truth != UNLABELLED
        chosen = torch.stack((is_known, is_known & is_trusted, is_trusted & (guesses == truth)))
        # One histogram for all three counts: class c of count i is the place i K + c.
        places = truth.clamp_min(0) + num_classes * torch.arange(3, device=truth.device)[:, None]
        counts = torch.bincount(places[chosen], minlength=3 * num_classes).view(3, num_classes).tolist()
        return cls(len(guesses), int(is_trusted.sum()), *map(tuple, counts))

    def __add__(self, other: Self) -> Self:
        """Add the counts of other examples."""

        def added(own: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
            return tuple(a + b for a, b in zip(own, others, strict=True))

        return type(self)(
            self.guessed + other.guessed,
            self.trusted + other.trusted,
            added(self.known, other.known),
            added(self.known_trusted, other.known_trusted),
            added(self.right, other.right),
        )

    @property
    def coverage(self) -> float | None:
        """Share of the examples that had a pseudo-label; None if there was no example."""
        return _share(self.trusted, self.guessed)

    @property
    def accuracy(self) -> float | None:
        """Share of the pseudo-labels that are right, where that is known; None if it is of none."""
        return _share(sum(self.right), sum(self.known_trusted))

    def to_metrics(self) -> dict[str, int | list[int]]:
        """Return the counts as a client reports them: numbers and lists of numbers, always under the same names."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            _PREFIX + name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, Any], num_classes: int) -> Self:
        """Read what a client claims.

        Raises:
            DataError: A count is missing, negative, huge, no integer, or larger than what it is a part of.
        """
        values = [metrics.get(_PREFIX + field.name.replace("_", "-")) for field in fields(cls)]
        totals = [value for value in values if isinstance(value, int) and _is_count(value)]
        by_class = [tuple(value) for value in values if isinstance(value, list) and all(map(_is_count, value))]
        if len(totals) != 2 or [len(counts) for counts in by_class] != [num_classes] * 3:
            raise DataError(f"pseudo-labels are {values}, expected two counts and three lists of {num_classes} counts")
        guessed, trusted = totals
        known, known_trusted, right = by_class
        claimed = cls(guessed, trusted, known, known_trusted, right)
        parts = [
            (claimed.trusted, claimed.guessed),
            (sum(claimed.known), claimed.guessed),
            (sum(claimed.known_trusted), claimed.trusted),
            *zip(claimed.known_trusted, claimed.known, strict=True),
            *zip(claimed.right, claimed.known_trusted, strict=True),
        ]
        if wrong := [(part, whole) for part, whole in parts if part > whole]:
            raise DataError(f"counts of pseudo-labels hold {wrong[0][0]} of {wrong[0][1]}")
        return claimed

    def to_row(self) -> dict[str, float | list[float | None]]:
        """Return what a round's row tells; nothing of what was not measured."""
        by_class = {
            "pseudo_coverage_by_class": [*map(_share, self.known_trusted, self.known)],
            "pseudo_accuracy_by_class": [*map(_share, self.right, self.known_trusted)],
        }
        totals = {"pseudo_coverage": self.coverage, "pseudo_accuracy": self.accuracy}
        measured = {name: value for name, value in totals.items() if value is not None}
        return measured | (by_class if any(self.known) else {})


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST
