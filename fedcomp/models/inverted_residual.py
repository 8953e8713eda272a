"""The block that MobileNetV2 and EfficientNet-Lite are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Norm: TypeAlias = Callable[[int], nn.Module]
    """Number of channels in, a norm layer for them out."""


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow does: output ``ceil(size / stride)``, the rest behind.

    It has a bias only when a norm has been folded into it.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Pad and convolve."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in inputs.shape[2:])
        if height == width and height % 2 == 0:
            # What the convolution itself can do is one copy less.
            return F.conv2d(inputs, self.weight, self.bias, self.stride, height // 2, self.dilation, self.groups)
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        return F.conv2d(F.pad(inputs, padding), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class InvertedResidual(nn.Module):
    """Expand by 1 x 1, filter each channel by itself, project by 1 x 1; added to the input where that has its shape.

    Args:
        channels_in: Of the input.
        channels_out: Of the output.
        expansion: Channels in between, as a multiple of `channels_in`; 1 has no first convolution.
        kernel: Of the filter.
        stride: Of the filter.
        norm: Makes the norm layers.

    References:
        Sandler et al., MobileNetV2, CVPR 2018, section 3.3.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, expansion: int, kernel: int, stride: int, norm: Norm
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        expand = conv_norm_relu(channels_in, hidden, 1, norm=norm) if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            *conv_norm_relu(hidden, hidden, kernel, stride, groups=hidden, norm=norm),
            SameConv2d(hidden, channels_out, 1),
            norm(channels_out),
        )
        self._is_residual = stride == 1 and channels_in == channels_out

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, channels_out, ceil(H / stride), ceil(W / stride))."""
        outputs: Tensor = self.layers(inputs)
        return inputs + outputs if self._is_residual else outputs


def conv_norm_relu(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, groups: int = 1, norm: Norm
) -> list[nn.Module]:
    """Return a convolution, its norm and a ReLU6."""
    convolution = SameConv2d(channels_in, channels_out, kernel, stride, groups)
    return [convolution, norm(channels_out), nn.ReLU6(inplace=True)]
