"""Which of a student's layers have weights of fewer bits than eight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.models import matching_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

DEFAULT_BITS = 8


def layer_names(model: nn.Module) -> list[str]:
    """Return the names of a model's weights of two axes and more."""
    return [name for name, parameter in model.named_parameters() if parameter.dim() > 1]


def layer_bits(model: nn.Module, by_pattern: Mapping[str, int]) -> dict[str, int]:
    """Return the layers of a model whose weights have fewer than eight bits, and how many they have.

    Args:
        model: The student, with or without BatchNorm.
        by_pattern: Bits by pattern of a name, as `RunConfig.layer_bits`; of patterns that fit the last one counts.

    Raises:
        ConfigError: A pattern fits no layer.
    """
    names = layer_names(model)
    bits = dict.fromkeys(names, DEFAULT_BITS)
    for pattern, width in by_pattern.items():
        bits |= dict.fromkeys(matching_names(names, pattern, "student-bits"), width)
    return {name: bits[name] for name in names if bits[name] < DEFAULT_BITS}


def largest_level(bits: int) -> int:
    """Return the largest level of symmetric weights of so many bits; the smallest one is minus that."""
    return int(2 ** (bits - 1) - 1)
