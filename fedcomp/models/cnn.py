"""Convolutional networks: one for clients, the field's standard one, and a student."""

from __future__ import annotations

from torch import nn


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


def student_cnn(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build a small BatchNorm network: it trains in one place, and its norms fold into the convolutions.

    About 15,500 parameters.
    """
    return nn.Sequential(
        *_batch_norm_block(image_shape[0], 16),
        *_batch_norm_block(16, 32),
        nn.MaxPool2d(2),
        *_batch_norm_block(32, 32),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 32, num_classes),
    )


def _group_norm_block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.GroupNorm(8, channels_out), nn.ReLU()


def _batch_norm_block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()
