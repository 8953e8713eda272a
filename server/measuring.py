"""The global model, and what the server measures of it: accuracy, or what its features are good for."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch

from fedcomp.errors import UsageError
from fedcomp.models import QUARTER_TURNS, PartialModel, evaluation_mode
from fedcomp.reporting import LAST_ROUNDS
from fedcomp.training import evaluate_logits, output_spread, predict_logits, turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset
    from fedcomp.types import Model

_PROBE_PENALTY = 1.0
_PROBE_STEPS = 500


def global_model(config: RunConfig, data: ImageDataset) -> PartialModel:
    """Build the model as the clients do."""
    return PartialModel.build(
        config.model,
        image_shape=data.image_shape,
        num_classes=data.num_classes,
        seed=config.seed,
        frozen=config.frozen,
        local=config.local_layers,
        pretraining=config.pretraining,
    )


def measurement(
    config: RunConfig, model: PartialModel, labelled: ImageDataset, test: ImageDataset
) -> Callable[[int, Model], dict[str, float]]:
    """Return what measures a round's global model: by name, and nothing after a round that is not to be measured.

    Args:
        config: Of the run.
        model: Takes on the weights that are measured.
        labelled: The server's own labelled images; may be empty.
        test: What is measured on.
    """
    measures = _measures(config, model, labelled, test)

    def measure(server_round: int, weights: Model) -> dict[str, float]:
        if not is_measured(config, server_round):
            return {}
        model.set_shared(weights)
        return {name: value for each in measures for name, value in each().items()}

    return measure


def is_measured(config: RunConfig, server_round: int) -> bool:
    """Tell whether the global model is measured after this round; it always is after the last ten.

    Where layers are local there is no global model to measure: clients measure their own.
    """
    if config.local_layers:
        return False
    return server_round % config.evaluate_every == 0 or server_round > config.num_server_rounds - LAST_ROUNDS


def _measures(
    config: RunConfig, model: PartialModel, labelled: ImageDataset, test: ImageDataset
) -> list[Callable[[], dict[str, float]]]:
    if not config.pretraining:
        return [Accuracy(model, test).measure]
    measures = [LinearProbe(model, labelled, test).measure] if config.server_labels else []
    return [*measures, TurnAccuracy(model, test).measure] if config.pretraining == "rotation" else measures


class Accuracy:
    """Measures on a test set; what a frozen backbone makes of it is computed once.

    Args:
        model: The global model, whose weights change.
        test: Labelled.
    """

    def __init__(self, model: PartialModel, test: ImageDataset) -> None:
        self._model, self._test = model, test
        self._features: torch.Tensor | None = None

    def measure(self) -> dict[str, float]:
        """Return ``accuracy`` and ``loss``."""
        evaluation = evaluate_logits(self._logits(), self._test)
        return {"accuracy": evaluation.accuracy, "loss": evaluation.loss}

    def _logits(self) -> torch.Tensor:
        module, backbone = self._model.module, self._model.backbone
        if backbone is None or not self._model.has_frozen_backbone:
            return predict_logits(module, self._test.images)
        if self._features is None:
            self._features = predict_logits(backbone, self._test.images)
        with evaluation_mode(module), torch.inference_mode():
            logits: torch.Tensor = module.head(self._features)  # type: ignore[operator]
        return logits.clone()


class LinearProbe:
    """Fits a logistic regression on the backbone's features of a few labelled images, and measures that.

    Args:
        model: The global network, whose weights change.
        labelled: What is fitted on.
        test: What is measured on, and never fitted on.
    """

    def __init__(self, model: PartialModel, labelled: ImageDataset, test: ImageDataset) -> None:
        self._model, self._labelled, self._test = model, labelled, test

    def measure(self) -> dict[str, float]:
        """Return ``accuracy`` of the probe, and ``feature_spread``: near 0 the network has collapsed.

        What can not be measured, as features are not finite, is left out.
        """
        if (backbone := self._model.backbone) is None:
            raise UsageError("a linear probe needs a model with a backbone")
        features, tested = (predict_logits(backbone, part.images) for part in (self._labelled, self._test))
        measured = {"feature_spread": output_spread(features)}
        if features.isfinite().all() and tested.isfinite().all():
            measured["accuracy"] = self._probe(features, tested)
        return {name: value for name, value in measured.items() if math.isfinite(value)}

    def _probe(self, features: torch.Tensor, tested: torch.Tensor) -> float:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PROBE_PENALTY, max_iter=_PROBE_STEPS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that is not quite done is measured as it is
            probe.fit(features.numpy(), self._labelled.labels)
        return float(probe.score(tested.numpy(), self._test.labels))


class TurnAccuracy:
    """Measures how often a network tells by how many quarters an image was turned; no label is looked at.

    Args:
        model: The global network, whose weights change.
        test: Every image is turned once, all turns in equal shares.
    """

    def __init__(self, model: PartialModel, test: ImageDataset) -> None:
        self._model = model
        self._turns = torch.arange(len(test)) % QUARTER_TURNS
        self._turned = turn(torch.from_numpy(test.images), self._turns).numpy()

    def measure(self) -> dict[str, float]:
        """Return ``turn_accuracy``, of which chance is 1/4."""
        told = predict_logits(self._model.module, self._turned).argmax(dim=1)
        return {"turn_accuracy": float((told == self._turns).float().mean())}
