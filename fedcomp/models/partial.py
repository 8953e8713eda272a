"""A model of which clients train and send a part."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from fedcomp.errors import DataError
from fedcomp.models.backbone import BackboneClassifier
from fedcomp.models.parts import ModelParts, freeze
from fedcomp.models.pretraining import pretraining_network
from fedcomp.models.registry import build_model
from fedcomp.models.simsiam import SimSiamNetwork
from fedcomp.models.weights import get_weights, set_weights
from fedcomp.types import fingerprint_model

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.types import Model


@dataclass(frozen=True, eq=False)
class PartialModel:
    """A model and what becomes of its tensors: both ends of a run build the same.

    Args:
        module: The whole model; its frozen parameters have no gradient.
        parts: Names of its tensors.
        frozen_fingerprint: Of the values of the frozen ones; 0 where there is none.
    """

    module: nn.Module
    parts: ModelParts
    frozen_fingerprint: int

    @classmethod
    def build(
        cls,
        name: str,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        seed: int,
        frozen: str = "",
        local: str = "",
        pretraining: str = "",
    ) -> Self:
        """Build a model and sort its tensors.

        Args:
            name: As in `build_model`, and the next three.
            image_shape: See there.
            num_classes: See there.
            seed: See there.
            frozen: Patterns, see `ModelParts.of`.
            local: Patterns, see there.
            pretraining: The objective whose own layers take the place of the head, see `pretraining_network`; empty
                for a classifier.

        Raises:
            ConfigError: There is no such model, or a pattern is wrong.
        """
        module = build_model(name, image_shape=image_shape, num_classes=num_classes, seed=seed)
        if pretraining:
            module = pretraining_network(pretraining, module, image_shape, seed=seed)
        parts = ModelParts.of(module, frozen=frozen, local=local)
        freeze(module, parts.frozen)
        fingerprint = fingerprint_model(get_weights(module, parts.frozen)) if parts.frozen else 0
        return cls(module, parts, fingerprint)

    def check_frozen(self, fingerprint: int) -> None:
        """Compare the frozen tensors with those of the server.

        Raises:
            DataError: They are others, so that what is trained on top of them would be of no use to it.
        """
        if self.frozen_fingerprint != fingerprint:
            raise DataError(
                f"the {len(self.parts.frozen)} frozen tensors have fingerprint {self.frozen_fingerprint:08x} here and "
                f"{fingerprint:08x} at the server: install the same pretrained weights, versions of torch and seed"
            )

    def copy(self) -> Self:
        """Return one that can be trained without changing this one."""
        return replace(self, module=copy.deepcopy(self.module))

    @property
    def has_frozen_backbone(self) -> bool:
        """Whether every tensor below the head is frozen."""
        names = [f"backbone.{name}" for name in self.backbone.state_dict()] if self.backbone else []
        return bool(names) and set(names) <= set(self.parts.frozen)

    @property
    def backbone(self) -> nn.Module | None:
        """What makes features, None where the model has no such part."""
        return self.module.backbone if isinstance(self.module, BackboneClassifier | SimSiamNetwork) else None

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that train and travel, by name."""
        shared = set(self.parts.shared)
        return {name: parameter for name, parameter in self.module.named_parameters() if name in shared}

    def shared_weights(self) -> Model:
        """Return what travels."""
        return get_weights(self.module, self.parts.shared)

    def set_shared(self, weights: Model) -> None:
        """Load what travelled; raises `DataError` if it is not exactly the shared tensors."""
        set_weights(self.module, weights, self.parts.shared)
