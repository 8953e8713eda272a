"""The server's own training: on its few labels, after each aggregation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fedcomp.config import cosine_factor
from fedcomp.data import label_all
from fedcomp.seeding import derive_seed
from fedcomp.student import cubic_sparsity, prune_smallest
from fedcomp.training import (
    LocalSettings,
    ObjectiveSettings,
    image_views,
    make_objective,
    measure_statistics,
    to_images,
    train_locally,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from fedcomp.config import RunConfig
    from fedcomp.data import HeldOut
    from fedcomp.models import PartialModel
    from fedcomp.types import Model

    Refine: TypeAlias = Callable[[int, Model], Model]
    """A round's number and model in, the model that it ends with out."""


class Refinement:
    """What the server does to a model before it is sent: a function of the seed, the round and the model alone.

    Where the configuration says so it trains on its labelled images (Diao et al., SemiFL, NeurIPS 2022, section 3.1),
    prunes, and measures the statistics of BatchNorm layers, which clients leave alone.

    Args:
        config: The run.
        model: Of the run's architecture; left as it is.
        held_out: The server's images.
    """

    def __init__(self, config: RunConfig, model: PartialModel, held_out: HeldOut) -> None:
        self._config, self._model = config, model.copy()
        labelled = held_out.labelled
        self._data = label_all(labelled)
        self._measured_on = held_out.proxy if len(held_out.proxy) >= 2 else labelled
        settings = replace(ObjectiveSettings.of(config), objective="supervised", augment=True)
        self._objective = make_objective(settings, image_views(config, labelled.flip_ok), labelled.num_classes)

    @classmethod
    def of(cls, config: RunConfig, model: PartialModel, held_out: HeldOut) -> Refinement | None:
        """Return the refinement that a configuration asks for, None if it asks for none."""
        asked = config.fine_tune_epochs or config.prune_ratio or config.static_batch_norm
        return cls(config, model, held_out) if asked else None

    def __call__(self, server_round: int, weights: Model, note: Callable[[str], None] = lambda _: None) -> Model:
        """Return the refined model.

        Args:
            server_round: 0 is before the first one.
            weights: The model.
            note: Is told how far a warm-up is.
        """
        self._model.set_shared(weights)
        module = self._model.module
        if server_round == 0 and self._config.warm_up_epochs:
            self._warm_up(note)
        elif self._config.fine_tune_epochs:
            rate = self._config.fine_tune_learning_rate * self._config.rate_factor(max(1, server_round))
            self._train(self._config.fine_tune_epochs, rate, server_round)
        if self._config.prune_ratio:
            self._model.set_shared(prune_gradually(self._config, server_round, self._model.shared_weights()))
        if self._config.static_batch_norm:
            measure_statistics(module, to_images(self._measured_on.images).to(self._config.device))
        return self._model.shared_weights()

    def _warm_up(self, note: Callable[[str], None]) -> None:
        """Train on the labels along one cosine; each epoch is a training of its own, with new momentum."""
        epochs = self._config.warm_up_epochs
        for epoch in range(epochs):
            rate = self._config.warm_up_learning_rate * cosine_factor(epoch / epochs)
            loss = self._train(1, rate, 0, epoch)
            if (10 * (epoch + 1)) // epochs > (10 * epoch) // epochs:
                note(f"server's labels: {epoch + 1} of {epochs} epochs, loss {loss:.3f}")

    def _train(self, epochs: int, learning_rate: float, server_round: int, part: int = 0) -> float:
        """Train on the labels, in one of a round's parts; return the mean loss."""
        config = self._config
        settings = replace(
            LocalSettings.of(config),
            epochs=epochs,
            batch_size=config.fine_tune_batch_size,
            learning_rate=learning_rate,
            proximal_mu=0.0,
        )
        seed = derive_seed(config.seed, server_round, "server", part)
        metrics = train_locally(self._model.module, self._data, settings, objective=self._objective, seed=seed)
        return float(metrics["train-loss"])


def prune_gradually(config: RunConfig, server_round: int, weights: Model) -> Model:
    """Return the global model with as many zeros as the schedule asks for after this round; clients keep them."""
    ratio = cubic_sparsity(server_round, start=config.prune_from, end=config.last_prune_round, final=config.prune_ratio)
    return prune_smallest(weights, ratio)


def in_turn(*steps: Refine | None) -> Refine | None:
    """Return what does all steps that there are, one after the other; None if there is none."""
    asked = [step for step in steps if step]

    def refine(server_round: int, weights: Model) -> Model:
        for step in asked:
            weights = step(server_round, weights)
        return weights

    return refine if asked else None
