"""How an example may look otherwise and still be the same: all that objectives know of what kind of data it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fedcomp.training.augment import strong_augment, weak_augment

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Views(Protocol):
    """Two ways to change inputs, whatever they are: images, tokens, rows of a table."""

    def weak(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return inputs (B, ...) that keep the label of every example."""
        ...

    def strong(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return inputs that keep what matters, and distort the rest."""
        ...


@dataclass(frozen=True)
class ImageViews:
    """Views of images (B, C, H, W) in [0, 1].

    Args:
        flip_ok: Whether a mirrored image keeps its label.
    """

    flip_ok: bool

    def weak(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Shift, and flip if that is allowed."""
        return weak_augment(inputs, generator, flip_ok=self.flip_ok)

    def strong(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Distort geometry and brightness, and cut a square out."""
        return strong_augment(inputs, generator, flip_ok=self.flip_ok)
