"""Convolutional networks: one for clients, the field's standard one, and students."""

from __future__ import annotations

from torch import nn

from fedcomp.errors import ConfigError

_WIDTHS = (0.05, 16.0)


def cnn_gn(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build three GroupNorm blocks of 32, 64 and 64 channels, pooled to one vector.

    GroupNorm, because batch statistics of skewed clients do not average (Hsieh et al., ICML 2020, section 5).
    Works from 8 x 8 images on; about 57,000 parameters.
    """
    channels = image_shape[0]
    return nn.Sequential(
        *_group_norm_block(channels, 32),
        *_group_norm_block(32, 64),
        nn.MaxPool2d(2),
        *_group_norm_block(64, 64),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 64, num_classes),
    )


def cnn(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network of McMahan et al., AISTATS 2017, section 3: 1,663,370 parameters on 28 x 28."""
    channels, height, width = image_shape
    # A maximum and a ReLU may change places: the same values and gradients, on a quarter of the pixels.
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, num_classes),
    )


def student_cnn(image_shape: tuple[int, int, int], num_classes: int, *, width: float = 1.0) -> nn.Module:
    """Build a small BatchNorm network: it trains in one place, and its norms fold into the convolutions.

    Args:
        image_shape: Channels, height, width.
        num_classes: Size of the output.
        width: Multiplies the channels 16, 32 and 32, 0.05 to 16; 1 has about 15,500 parameters.
    """
    first, second, third = _widths(width, 16, 32, 32)
    return nn.Sequential(
        *_batch_norm_block(image_shape[0], first),
        *_batch_norm_block(first, second),
        nn.MaxPool2d(2),
        *_batch_norm_block(second, third),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * third, num_classes),
    )


def student_pyramid(image_shape: tuple[int, int, int], num_classes: int, *, width: float = 1.0) -> nn.Module:
    """Build a BatchNorm network whose channels double where its sides halve: most weights work on few pixels.

    Args:
        image_shape: Channels, height, width.
        num_classes: Size of the output.
        width: Multiplies the channels 16, 32, 64 and 64, 0.05 to 16; 1 has about 61,000 parameters.
    """
    first, second, third, fourth = _widths(width, 16, 32, 64, 64)
    return nn.Sequential(
        *_batch_norm_block(image_shape[0], first),
        nn.MaxPool2d(2),
        *_batch_norm_block(first, second),
        nn.MaxPool2d(2),
        *_batch_norm_block(second, third),
        *_batch_norm_block(third, fourth),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(fourth, num_classes),
    )


def _widths(factor: float, *channels: int) -> tuple[int, ...]:
    if not _WIDTHS[0] <= factor <= _WIDTHS[1]:
        raise ConfigError(f"the student's width is {factor:g}, expected {_WIDTHS[0]:g} to {_WIDTHS[1]:g}")
    return tuple(max(1, round(factor * count)) for count in channels)


def _group_norm_block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.GroupNorm(8, channels_out), nn.ReLU()


def _batch_norm_block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()
