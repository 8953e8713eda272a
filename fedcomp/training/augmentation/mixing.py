"""Mixtures of examples and of their labels: mixup and CutMix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Generator, Tensor

    Mix = Callable[[Tensor, Tensor, Generator, float], "Mixed"]


class Mixed(NamedTuple):
    """A mixed batch.

    Args:
        inputs: Of the shape that came in.
        targets: (B, K); rows sum to what they summed to before.
        partners: (B,): with which example each was mixed.
    """

    inputs: Tensor
    targets: Tensor
    partners: Tensor


def mixup(inputs: Tensor, targets: Tensor, generator: Generator, alpha: float) -> Mixed:
    r"""Mix each example with another one of its batch: ``x = l x_i + (1 - l) x_j``, ``y`` alike.

    Args:
        inputs: (B, ...), float.
        targets: (B, K), probabilities.
        generator: Source of all randomness.
        alpha: ``l ~ Beta(alpha, alpha)``, one for each example.

    References:
        Zhang et al., mixup, ICLR 2018, section 2.
    """
    partners, share = _partners(len(inputs), generator, alpha)
    partners, share = partners.to(inputs.device), share.to(inputs.device)
    of_input = share.view(-1, *[1] * (inputs.dim() - 1))
    return Mixed(inputs[partners].lerp(inputs, of_input), targets[partners].lerp(targets, share[:, None]), partners)


def cutmix(inputs: Tensor, targets: Tensor, generator: Generator, alpha: float) -> Mixed:
    r"""Paste a rectangle of another image of the batch into each; labels are mixed by area.

    Args:
        inputs: (B, C, H, W).
        targets: (B, K), probabilities.
        generator: Source of all randomness.
        alpha: The kept area's share is drawn from ``Beta(alpha, alpha)``, one for each image.

    References:
        Yun et al., CutMix, ICCV 2019, section 3.1.
    """
    partners, share = _partners(len(inputs), generator, alpha)
    height, width = inputs.shape[2:]
    side = (1 - share).sqrt()
    in_rows = _interval(height, side, generator)
    in_columns = _interval(width, side, generator)
    pasted = in_rows[:, :, None] & in_columns[:, None, :]
    share = (1 - pasted.float().mean(dim=(1, 2))).to(inputs.device)
    partners = partners.to(inputs.device)
    mixed = torch.where(pasted[:, None].to(inputs.device), inputs[partners], inputs)
    return Mixed(mixed, targets[partners].lerp(targets, share[:, None]), partners)


MIXES: Mapping[str, Mix] = {"mixup": mixup, "cutmix": cutmix}


def _partners(batch: int, generator: Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """Draw whom each example is mixed with, and its own share, (B,) each."""
    partners = torch.randperm(batch, generator=generator)
    # Beta(a, a) as a ratio of two Gamma(a, 1); torch has a seeded sampler of the latter only.
    gammas = torch._standard_gamma(torch.full((2, batch), alpha, dtype=torch.float64), generator=generator)
    share = (gammas[0] / gammas.sum(dim=0).clamp_min(1e-300)).float()
    return partners, share


def _interval(length: int, share: Tensor, generator: Generator) -> Tensor:
    """Return which of `length` places are in an interval of about `share` of them around a random middle."""
    middle = torch.randint(0, length, (len(share), 1), generator=generator)
    half = share[:, None] * (length / 2)
    places = torch.arange(length)
    return (places >= middle - half) & (places < middle + half)
