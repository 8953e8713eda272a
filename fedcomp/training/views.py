"""How an example may look otherwise and still be the same: all that objectives know of the kind of data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from fedcomp.training.augmentation import StrongPolicy, strong_augment, weak_augment

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    from fedcomp.config import RunConfig

    View: TypeAlias = Callable[[Tensor, Generator], Tensor]
    """Inputs (B, ...) and a source of randomness in, new inputs of the same shape out."""


class Views(Protocol):
    """Two ways to change inputs, whatever they are: images, tokens, rows of a table."""

    def weak(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return inputs that a model should see as the same, easily."""
        ...

    def strong(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return inputs that a model should learn to see as the same."""
        ...


@dataclass(frozen=True)
class ImageViews:
    """Views of images (B, C, H, W) in [0, 1].

    Args:
        flip_ok: Whether a mirrored image keeps its label.
        policy: How strong the strong view is.
    """

    flip_ok: bool
    policy: StrongPolicy = field(default_factory=StrongPolicy)

    def weak(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Shift, and flip if that is allowed."""
        return weak_augment(inputs, generator, flip_ok=self.flip_ok)

    def strong(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Shift, flip, apply random operations and cut a square out."""
        return strong_augment(inputs, generator, flip_ok=self.flip_ok, policy=self.policy)


def image_views(config: RunConfig, flip_ok: bool) -> ImageViews:
    """Return the views that a run's configuration says."""
    policy = StrongPolicy(num_operations=config.strong_operations, magnitude=config.strong_magnitude)
    return ImageViews(flip_ok, policy)


def plain(inputs: Tensor, _: Generator) -> Tensor:
    """Return inputs as they are: a `View` that changes nothing."""
    return inputs
