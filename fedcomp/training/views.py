"""Two ways to look at a batch anew, for objectives that learn from what all views of an example have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from fedcomp.training.augment import strong_augment, weak_augment

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    View: TypeAlias = Callable[[Tensor, Generator], Tensor]
    """Inputs (B, ...) and the source of all randomness in, new inputs of the same shape out."""


@dataclass(frozen=True)
class Views:
    """Views of any kind of input: images, tokens, rows of a table.

    Args:
        weak: Keeps the label of every example.
        strong: Keeps what matters, and distorts the rest.
    """

    weak: View
    strong: View


def image_views(*, flip_ok: bool) -> Views:
    """Return views of images (B, C, H, W) in [0, 1]; see `weak_augment` and `strong_augment`."""
    return Views(partial(weak_augment, flip_ok=flip_ok), partial(strong_augment, flip_ok=flip_ok))
