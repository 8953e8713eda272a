"""A finished run's folder, read: its model, its images, and how far its model came."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.distillation import EnsembleTeacher, GlobalTeacher, features, proxy_images, read_clients
from fedcomp.errors import UsageError
from fedcomp.files import read_json, read_tensors
from fedcomp.models import ModelParts, build_model, get_weights, set_weights
from fedcomp.run_files import CLIENTS_FOLDER, CONFIG_FILE, MODEL_FILE, SUMMARY_FILE
from fedcomp.student.make import Lesson
from fedcomp.types import subtract_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import nn

    from fedcomp.data import HeldOut, ImageDataset
    from fedcomp.distillation import Teacher
    from fedcomp.types import Model, ModelDelta


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run left behind.

    Args:
        folder: Where.
        config: As it ran, with the changes that were asked for.
        summary: Of ``summary.json``.
        model: The final global model.
        held_out: The training images, cut apart as in the run.
        test: For figures, never for choices.
    """

    folder: Path
    config: RunConfig
    summary: Mapping[str, Any]
    model: nn.Module
    held_out: HeldOut
    test: ImageDataset

    @classmethod
    def read(cls, folder: Path, changes: Mapping[str, Any] | None = None) -> Self:
        """Read a folder.

        Args:
            folder: Of a finished run.
            changes: Keys of the run's configuration that shall be others here, kebab-case.

        Raises:
            UsageError: The folder holds no finished run of a classifier, or a change is wrong.
            DataError: The model is damaged, or the data set is not what it was.
        """
        summary = _read_summary(folder)
        begun = RunConfig.from_toml(folder / CONFIG_FILE).to_mapping()
        config = RunConfig.from_mapping({**begun, **(changes or {})})
        if config.pretraining:
            raise UsageError(f"{folder}: {config.objective} trained no classifier; go on with model=run:{folder}")
        train, test = load_dataset(config.dataset, config.data_dir)
        held_out = hold_out(train, **config.held_out_sizes, seed=config.seed)
        run = cls(folder, config, summary, _build(config, config.model, test), held_out, test)
        set_weights(run.model, read_tensors(folder / MODEL_FILE))
        return run

    def build(self, name: str) -> nn.Module:
        """Return a new model for the run's images, with the weights that the run's seed gives."""
        return _build(self.config, name, self.test)

    def lesson(self, num_proxy: int | None = None) -> Lesson:
        """Return what a student learns from: the teacher's logits on the run's proxy images.

        Args:
            num_proxy: Only the first ones of those that were held out, each as often as makes up for the others; None
                is all.

        Raises:
            UsageError: The teacher is an ensemble, and the run kept no clients.
            DataError: It kept them, and they are damaged.
            RunError: None of them is better than chance.
        """
        held_out = self.held_out.proxy
        if num_proxy is not None:
            held_out = held_out.take(np.arange(len(held_out)) % num_proxy)
        proxy = proxy_images(self.config, held_out, self.model)
        hints = features(self.model, proxy.images) if self.config.hint_weight else None
        is_ensemble = self.config.teacher == "ensemble"
        teacher: Teacher = self.ensemble(proxy) if is_ensemble else GlobalTeacher(self.model, proxy)
        taught_by = "ensemble" if is_ensemble else "global"
        return Lesson(taught_by, teacher.logits(), proxy, self.held_out.validation, self.test, hints)

    def ensemble(self, proxy: ImageDataset) -> EnsembleTeacher:
        """Let the clients of the last round vote on images, one after the other; raises what `lesson` does."""
        scratch, validation = copy.deepcopy(self.model), self.held_out.validation
        teacher = EnsembleTeacher(scratch, proxy, validation, average=self.config.teacher_average)
        teacher.hear(self.clients())
        return teacher

    def clients(self) -> Iterator[Model]:
        """Return the whole models of the last round's clients, each read when it is asked for."""
        parts = ModelParts.of(self.model, frozen=self.config.frozen, local=self.config.local_layers)
        frozen, tensors = get_weights(self.model, parts.frozen), self.model.state_dict()
        kept = read_clients(self.folder / CLIENTS_FOLDER, sum(tensors[name].nbytes for name in parts.shared))
        # Not a generator, which would hold each until the next one is read.
        return map(partial(_beside, frozen), kept)

    def update(self) -> ModelDelta:
        """Return the final model minus the one that training began with, built again from the seed: what travels."""
        parts = ModelParts.of(self.model, frozen=self.config.frozen, local=self.config.local_layers)
        first = self.build(self.config.model)
        return subtract_models(get_weights(self.model, parts.shared), get_weights(first, parts.shared))


def _beside(frozen: Model, weights: Model) -> Model:
    return {**frozen, **weights}


def _build(config: RunConfig, name: str, images: ImageDataset) -> nn.Module:
    return build_model(name, image_shape=images.image_shape, num_classes=images.num_classes, seed=config.seed)


def _read_summary(run: Path) -> dict[str, Any]:
    missing = [name for name in (CONFIG_FILE, MODEL_FILE, SUMMARY_FILE) if not (run / name).is_file()]
    if missing:
        raise UsageError(f"{run} is not the folder of a finished run: it has no {', '.join(missing)}")
    return read_json(run / SUMMARY_FILE)
