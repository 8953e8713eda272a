"""MobileNetV2 for clients: GroupNorm in the place of BatchNorm, and a width."""

from __future__ import annotations

from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.models.backbone import BackboneClassifier, Preprocess
from fedcomp.models.inverted_residual import InvertedResidual, conv_norm_relu

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, number of blocks, stride of the first one: table 2 of the paper."""
_STEM, _FEATURES = 32, 1280
_GROUP = 8  # every width is a multiple of it


def mobilenet_v2(
    image_shape: tuple[int, int, int], num_classes: int, *, width: float = 1.0, side: int = 0
) -> nn.Module:
    """Build MobileNetV2, 3,504,872 parameters for a thousand classes at width 1.

    GroupNorm has as many parameters, and no statistics that skewed clients could not average (see `cnn_gn`).

    Args:
        image_shape: Channels, one or three, height, width.
        num_classes: Size of the output.
        width: Multiplies all channels, 0.1 to 2; of the features too where it is above 1.
        side: Smaller images are enlarged to it; 0 leaves all. The output's side is a 32nd of the input's.

    Raises:
        ConfigError: A number is out of range.

    References:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, section 4.
    """
    if not 0.1 <= width <= 2:
        raise ConfigError(f"mobilenet-v2 has width {width}, expected 0.1 to 2")
    if not 0 <= side <= 1024:
        raise ConfigError(f"mobilenet-v2 has side {side}, expected 0 to 1024 pixels")
    channels = _rounded(_STEM * width)
    layers: list[nn.Module] = [Preprocess(side, (0.5,) * 3, (0.5,) * 3), *conv_norm_relu(3, channels, 3, 2, norm=_norm)]
    for expansion, base, count, stride in _STAGES:
        for block in range(count):
            channels_out, step = _rounded(base * width), stride if block == 0 else 1
            layers.append(
                InvertedResidual(channels, channels_out, expansion=expansion, kernel=3, stride=step, norm=_norm)
            )
            channels = channels_out
    num_features = _rounded(_FEATURES * max(1.0, width))
    layers += [*conv_norm_relu(channels, num_features, 1, norm=_norm), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return BackboneClassifier(nn.Sequential(*layers), nn.Linear(num_features, num_classes))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // _GROUP, channels)


def _rounded(channels: float) -> int:
    """Round to a multiple of eight, but not down by more than a tenth, as the authors do."""
    rounded = max(_GROUP, int(channels + _GROUP / 2) // _GROUP * _GROUP)
    return rounded if rounded >= 0.9 * channels else rounded + _GROUP
