"""A small residual network for clients, of GroupNorm layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

_WIDTHS = (32, 64, 128)


def resnet8_gn(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build a ResNet-8 whose first convolution halves the image: 32, 64 and 128 channels, one block each.

    The first stage works on a quarter of the pixels, where a network on all of them spends most of its time. About
    308,000 parameters; from 8 x 8 images on.

    References:
        He et al., CVPR 2016, section 4.2 (6 n + 2 layers, n = 1); GroupNorm as in Hsieh et al., ICML 2020, section 5.
    """
    channels = image_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, _WIDTHS[0], 4, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, _WIDTHS[0]),
        nn.ReLU(),
        ResidualBlock(_WIDTHS[0], _WIDTHS[0], stride=1),
        ResidualBlock(_WIDTHS[0], _WIDTHS[1], stride=2),
        ResidualBlock(_WIDTHS[1], _WIDTHS[2], stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(_WIDTHS[2], num_classes),
    )


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut, which is one of 1 x 1 where the shape changes.

    Args:
        channels_in: Channels.
        channels_out: A multiple of 8.
        stride: Of the first convolution and of the shortcut.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, channels_out, H / stride, W / stride)."""
        hidden = F.relu(self.norm1(self.conv1(images)))
        outcome: Tensor = F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(images))
        return outcome
