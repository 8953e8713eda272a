"""A lone example has no variance: a BatchNorm layer that is given one in training would end it with an error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@contextlib.contextmanager
def lone_examples(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm layers of a model in training normalize one value a channel by their running statistics.

    It comes to that with the last batch of 17 images in batches of 16, with one trusted guess or a client of one image,
    where images are down to one pixel or a layer is a ``BatchNorm1d``. Layers without statistics refuse it as ever.
    """
    resting = set[nn.Module]()

    def rest(layer: _BatchNorm, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        (values,) = (*inputs, *named.values())
        if layer.training and layer.running_mean is not None and values.numel() == values.shape[1]:
            resting.add(layer.eval())

    def go_on(layer: _BatchNorm, *_: Any) -> None:
        if layer in resting:
            resting.remove(layer.train())

    with contextlib.ExitStack() as hooks:
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                hooks.callback(layer.register_forward_pre_hook(rest, with_kwargs=True).remove)
                hooks.callback(layer.register_forward_hook(go_on, always_call=True).remove)
        yield
