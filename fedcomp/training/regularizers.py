"""Terms of a client's loss that look at the weights alone, and hold its training near to that of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from fedcomp.types import ModelDelta, NDArray


class Regularizer(Protocol):
    """A term of the loss."""

    def __call__(self) -> Tensor:
        """Return the term at the weights of this moment, a scalar with a gradient."""
        ...


class Proximal:
    """FedProx: ``mu / 2 * |w - w_global|^2``.

    Args:
        parameters: Those that train, with the global model's values.
        mu: Above 0.

    References:
        Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020, equation 2.
    """

    def __init__(self, parameters: list[nn.Parameter], mu: float) -> None:
        self._parameters, self._mu = parameters, mu
        self.anchors = [parameter.detach().clone() for parameter in parameters]

    def __call__(self) -> Tensor:
        """Return the pull towards the global model."""
        distances = [(now - then).square().sum() for now, then in zip(self._parameters, self.anchors, strict=True)]
        return self._mu / 2 * torch.stack(distances).sum()


class Dynamic:
    """FedDyn at a client k: ``alpha / 2 * |w - w_global|^2 - <g_k, w>``.

    ``g_k`` is what the client remembers: the gradient of its own loss where its last training ended. Where all clients'
    trainings end at the same weights, these gradients add up to zero, so the weights are optimal for all data together.

    Args:
        parameters: Those that train and travel, by name, with the global model's values.
        alpha: Above 0.
        gradient: ``g_k`` by name; a missing one is zero, as in a client's first round.

    References:
        Acar et al., Federated Learning Based on Dynamic Regularization, ICLR 2021, algorithm 1.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], alpha: float, gradient: Mapping[str, NDArray] | None = None
    ) -> None:
        remembered = gradient or {}
        self._names, self._parameters, self._alpha = list(parameters), list(parameters.values()), alpha
        self._pull = Proximal(self._parameters, alpha)
        self._gradients = [
            torch.tensor(remembered[name]).to(parameter) if name in remembered else torch.zeros_like(parameter)
            for name, parameter in parameters.items()
        ]

    def __call__(self) -> Tensor:
        """Return the term."""
        products = [(g * now).sum() for g, now in zip(self._gradients, self._parameters, strict=True)]
        return self._pull() - torch.stack(products).sum()

    def next_gradient(self) -> ModelDelta:
        """Return ``g_k - alpha * (w - w_global)``, float32 by name: what the client remembers after its training."""
        triples = zip(self._gradients, self._parameters, self._pull.anchors, strict=True)
        updated = [g - self._alpha * (now.detach() - then) for g, now, then in triples]
        return {name: values.cpu().numpy() for name, values in zip(self._names, updated, strict=True)}
