"""The clients' models as teachers: of the student after the last round, of the global model every so many rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.distillation import DistillSettings, EnsembleTeacher, distill, proxy_images
from fedcomp.models import get_weights
from fedcomp.seeding import derive_seed
from fedcomp.training import memory_format

if TYPE_CHECKING:
    from fedcomp.config import RunConfig
    from fedcomp.data import HeldOut, ImageDataset
    from fedcomp.flower import AcceptedUpdate
    from fedcomp.models import PartialModel
    from fedcomp.types import Model


class Teaching:
    """Lets the clients of a round vote on the proxy images, one after the other, and teaches what they say.

    Args:
        config: The run.
        model: Of the run's architecture; left as it is.
        held_out: The server's images.
    """

    def __init__(self, config: RunConfig, model: PartialModel, held_out: HeldOut) -> None:
        self._config, self._model, self._held_out = config, model.copy(), held_out
        self._heard = 0
        self._ensemble: EnsembleTeacher | None = None
        self._proxy: ImageDataset | None = None

    def hear(self, server_round: int, update: AcceptedUpdate) -> None:
        """Let a client's model vote, if this round teaches anybody."""
        if not self._teaches_in(server_round):
            return
        if self._ensemble is None or self._heard != server_round:
            self._heard, self._proxy = server_round, self.make_proxy(update.base)
            average, validation = self._config.teacher_average, self._held_out.validation
            self._ensemble = EnsembleTeacher(self._model.module, self._proxy, validation, average=average)
        frozen = get_weights(self._model.module, self._model.parts.frozen)
        self._ensemble.add({**frozen, **update.client_model()})

    def heard(self, server_round: int) -> tuple[EnsembleTeacher, ImageDataset] | None:
        """Return who voted in a round, and on what; None if nobody did who is better than chance.

        Who voted in an earlier one is forgotten: a run that was resumed since would not know them.
        """
        if self._heard != server_round or not self._ensemble or not self._proxy or not self._ensemble.num_teachers:
            return None
        return self._ensemble, self._proxy

    def make_proxy(self, weights: Model) -> ImageDataset:
        """Return the images to vote on; generated ones are made from `weights`."""
        self._model.set_shared(weights)
        return proxy_images(self._config, self._held_out.proxy, self._model.module)

    def fuse(self, server_round: int, weights: Model) -> Model:
        """Distill the round's clients into their average every `fusion_every` rounds; keep that if it is better.

        References:
            Lin et al., Ensemble Distillation for Robust Model Fusion (FedDF), NeurIPS 2020, algorithm 1.
        """
        config = self._config
        if not _is_due(config.fusion_every, server_round) or not (heard := self.heard(server_round)):
            return weights
        ensemble, proxy = heard
        settings = DistillSettings.of_fusion(config)
        self._model.set_shared(weights)
        module = self._model.module
        with memory_format(module, "channels-last"):
            seed = derive_seed(config.seed, server_round, "fusion")
            distill(module, ensemble.logits(), proxy, self._held_out.validation, settings, seed=seed)
        return self._model.shared_weights()

    def _teaches_in(self, server_round: int) -> bool:
        is_last = server_round == self._config.num_server_rounds
        return _is_due(self._config.fusion_every, server_round) or (is_last and self._config.teacher == "ensemble")


def _is_due(every: int, server_round: int) -> bool:
    return every > 0 and server_round % every == 0
