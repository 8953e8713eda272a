"""Hints: a student's last hidden layer is drawn to the teacher's, through a linear map that is learned beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from fedcomp.errors import UsageError
from fedcomp.training import predict_logits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from torch import Generator, Tensor

    from fedcomp.types import NDArray


def features(model: nn.Module, images: NDArray) -> Tensor:
    """Return what a model's last linear layer sees, (N, D), for uint8 images (N, C, H, W).

    Raises:
        UsageError: The model has no linear layer.
    """
    seen: list[Tensor] = []
    hook = _last_linear(model).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().cpu()))
    try:
        predict_logits(model, images)
    finally:
        hook.remove()
    return torch.cat(seen).clone()


class Hints:
    """Watches a student's last hidden layer while it is trained; leave the context to stop.

    Args:
        student: The model.
        hints: (N, D), the teacher's features of all images; None watches nothing, and every distance is 0.
        image: (1, C, H, W), any: how wide the student's layer is.
        generator: For the map's first weights.

    Raises:
        UsageError: The student has no linear layer.

    References:
        Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, section 2.2, equation 3.
    """

    def __init__(self, student: nn.Module, hints: Tensor | None, image: Tensor, generator: Generator) -> None:
        self._hints: Tensor | None = None
        self._seen: Tensor | None = None
        self._map: Tensor | None = None
        self._hook: Any = None
        if hints is None:
            return
        self._hook = _last_linear(student).register_forward_pre_hook(self._watch)
        width = _last_linear(student).in_features
        self._hints = F.normalize(hints.to(image.device), dim=1)
        drawn = torch.randn(width, hints.shape[1], generator=generator) / width**0.5
        self._map = drawn.to(image.device).requires_grad_()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._hook:
            self._hook.remove()

    def parameters(self) -> Iterable[Tensor]:
        """Return what is to be learned beside the student."""
        return [] if self._map is None else [self._map]

    def distance(self, indices: Tensor) -> Tensor | float:
        """Return the mean squared distance of student's and teacher's unit vectors, of the batch seen last: 0 to 4."""
        if self._hints is None or self._seen is None or self._map is None:
            return 0.0
        mapped = F.normalize(self._seen @ self._map, dim=1)
        return (mapped - self._hints[indices]).square().sum(dim=1).mean()

    def _watch(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0]


def _last_linear(model: nn.Module) -> nn.Linear:
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UsageError("hints need a model with a linear layer: set hint-weight to 0")
    return layers[-1]
