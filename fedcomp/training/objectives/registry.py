"""Objectives by name: a name is a choice of parts, and each part can be chosen otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.config import AUTO
from fedcomp.errors import ConfigError
from fedcomp.training.augmentation import MIXES
from fedcomp.training.objectives.pseudo_labelling import PseudoLabelling
from fedcomp.training.objectives.rotation import Rotation
from fedcomp.training.objectives.simsiam import SimSiam
from fedcomp.training.objectives.supervised import Supervised
from fedcomp.training.objectives.thresholds import AdaptiveThreshold, FixedThreshold
from fedcomp.training.views import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fedcomp.config import RunConfig
    from fedcomp.training.augmentation.mixing import Mix
    from fedcomp.training.objectives.objective import Objective
    from fedcomp.training.objectives.thresholds import Threshold
    from fedcomp.training.views import Views


@dataclass(frozen=True, slots=True)
class Preset:
    """The parts that a name stands for.

    Args:
        pseudo_labels: Who guesses.
        threshold: Who is trusted.
        is_soft: Whether guesses are learned as probabilities, sharpened, or as labels.
        is_strong: Whether that is done on strong views.
    """

    pseudo_labels: str = "live"
    threshold: str = "fixed"
    is_soft: bool = False
    is_strong: bool = True


PRESETS: Mapping[str, Preset] = {
    "pseudo-label": Preset(is_strong=False),  # Lee, ICML workshop 2013
    "fixmatch": Preset(),
    "freematch": Preset(threshold="adaptive"),
    "uda": Preset(is_soft=True),
    "mean-teacher": Preset(pseudo_labels="teacher", is_soft=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """What is minimized; see the keys of the same names in `RunConfig`."""

    objective: str = "fixmatch"
    augment: bool = True
    label_smoothing: float = 0.0
    mixing: str = "none"
    mix_alpha: float = 0.75
    pseudo_labels: str = AUTO
    threshold: str = AUTO
    pseudo_threshold: float = 0.95
    threshold_decay: float = 0.99
    pseudo_mixing: str = "none"
    learned_view: str = AUTO
    pseudo_temperature: float = 0.4
    teacher_decay: float = 1.0
    unlabelled_weight: float = 1.0
    mix_weight: float = 0.0
    fairness_weight: float = 0.0

    @classmethod
    def of(cls, config: RunConfig) -> ObjectiveSettings:
        """Return what a run's configuration says."""
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})


def make_objective(settings: ObjectiveSettings, views: Views, num_classes: int) -> Objective:
    """Build an objective.

    Args:
        settings: Its name and its parts.
        views: Of the data.
        num_classes: Of the run.

    Raises:
        ConfigError: No objective, threshold or mixture has this name.
    """
    supervised = Supervised(
        num_classes,
        views.weak if settings.augment else plain,
        smoothing=settings.label_smoothing,
        mix=_mix(settings.mixing),
        mix_alpha=settings.mix_alpha,
    )
    without_guesses: dict[str, Objective] = {
        "supervised": supervised,
        "simsiam": SimSiam(views.strong),
        "rotation": Rotation(views.weak),
    }
    if settings.objective in without_guesses:
        return without_guesses[settings.objective]
    if settings.objective not in PRESETS:
        expected = ", ".join([*without_guesses, *PRESETS])
        raise ConfigError(f"objective is {settings.objective!r}, expected one of {expected}")
    preset = PRESETS[settings.objective]
    thresholds: dict[str, Callable[[], Threshold]] = {
        "fixed": lambda: FixedThreshold(settings.pseudo_threshold),
        "adaptive": lambda: AdaptiveThreshold(settings.threshold_decay),
    }
    return PseudoLabelling(
        supervised,
        views,
        thresholds[_chosen(settings.threshold, preset.threshold)](),
        pseudo_labels=_chosen(settings.pseudo_labels, preset.pseudo_labels),
        temperature=settings.pseudo_temperature if preset.is_soft else 0.0,
        is_strong=_chosen(settings.learned_view, "strong" if preset.is_strong else "weak") == "strong",
        mix=_mix(settings.pseudo_mixing),
        weight=settings.unlabelled_weight,
        mix_weight=settings.mix_weight,
        mix_alpha=settings.mix_alpha,
        fairness_weight=settings.fairness_weight,
        teacher_decay=settings.teacher_decay,
    )


def _chosen(asked: str, preset: str) -> str:
    return preset if asked == AUTO else asked


def _mix(name: str) -> Mix | None:
    if name not in {"none", *MIXES}:
        raise ConfigError(f"mixing is {name!r}, expected one of none, {', '.join(MIXES)}")
    return MIXES.get(name)
