"""How a step is computed: number format, layout of the weights, threads. The weights are float32 in any case."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from torch import Tensor, nn

    from fedcomp.config import RunConfig

    Predict: TypeAlias = Callable[[Tensor], Tensor]
    """Images (B, C, H, W) in, logits (B, K) out: a module, or a module under autocast."""

PRECISIONS = ("float32", "bfloat16")
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass(frozen=True, slots=True)
class Compute:
    """What decides about the speed of a step and about the last bits of its result.

    The default is a fixed rule, so that a seed means the same everywhere. `calibrate` finds what is fastest here.

    Args:
        precision: ``float32``, or ``bfloat16``: forward and backward under autocast. Weights, gradients, loss and
            optimizer stay float32, so an update does, too.
        memory_format: Of convolutions' weights, ``contiguous`` or ``channels-last``. Pooling and float32 convolutions
            are faster on the latter; other layers don't care, except GroupNorm in bfloat16, which is slower.

    Raises:
        ConfigError: A name is unknown.
    """

    precision: str = "float32"
    memory_format: str = "channels-last"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}, expected {' or '.join(PRECISIONS)}")
        if self.memory_format not in MEMORY_FORMATS:
            raise ConfigError(f"memory-format is {self.memory_format!r}, expected {' or '.join(MEMORY_FORMATS)}")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Return what a run's configuration says, once nothing in it is ``auto``."""
        return cls(config.precision, config.memory_format)


def check_device(name: str) -> None:
    """Check that this machine has a device, which is not initialized by that: forked processes could not use it then.

    Args:
        name: As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        ConfigError: torch knows no such device, or has none here.
    """
    try:
        device = torch.device(name)
        found = torch.get_device_module(device).device_count()
    except (RuntimeError, AttributeError):
        raise ConfigError(f"device is {name!r}, expected a device of torch, such as cpu, cuda or cuda:1") from None
    if device.type != "cpu" and (device.index or 0) >= found:
        raise ConfigError(f"device is {name!r}, but torch finds {found} of {device.type} here: set it to cpu")


def in_precision(model: nn.Module, precision: str, device_type: str) -> Predict:
    """Return `model` as a function whose inside runs in `precision` and whose logits are float32."""
    if precision == "float32":
        return model

    def predict(images: Tensor) -> Tensor:
        # A context a call: until it ends, autocast reuses a weight cast without gradient (FixMatch's guesses) for
        # the next forward pass, where the gradient is then missing.
        with torch.autocast(device_type, getattr(torch, precision)):
            logits: Tensor = model(images)
        return logits.float()

    return predict


def has_formats(model: nn.Module) -> bool:
    """Tell whether `model` has weights that a memory format concerns: those of 2D convolutions."""
    return any(parameter.dim() == 4 for parameter in model.parameters())


@contextlib.contextmanager
def memory_format(model: nn.Module, name: str) -> Iterator[None]:
    """Store the weights of 2D convolutions in the format `name` (see `MEMORY_FORMATS`), and restore what was."""
    weights = [parameter for parameter in model.parameters() if parameter.dim() == 4]
    before = [_format_of(weight) for weight in weights]
    _store(weights, [MEMORY_FORMATS[name]] * len(weights))
    try:
        yield
    finally:
        _store(weights, before)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads, and restore what was; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _store(weights: list[nn.Parameter], formats: list[torch.memory_format]) -> None:
    for weight, wanted in zip(weights, formats, strict=True):
        # Not contiguous(): it takes a weight of one channel for channels-last as it is, and a convolution does not.
        weight.data = weight.data.to(memory_format=wanted)


def _format_of(weight: Tensor) -> torch.memory_format:
    is_plain = weight.is_contiguous() or not weight.is_contiguous(memory_format=torch.channels_last)
    return torch.contiguous_format if is_plain else torch.channels_last
