"""Local training: views, supervised and semi-supervised objectives, the client's loop, evaluation."""

from fedcomp.training.augmentation import StrongPolicy, cutmix, strong_augment, weak_augment
from fedcomp.training.batches import Batch, shuffled_batches, to_batch, to_images
from fedcomp.training.calibration import fastest, resolve_compute
from fedcomp.training.compute import Compute, check_device, memory_format
from fedcomp.training.evaluation import Evaluation, evaluate, evaluate_logits, predict_logits
from fedcomp.training.local import LocalSettings, train_locally, train_on_batches
from fedcomp.training.objectives import (
    Objective,
    ObjectiveSettings,
    Received,
    Rotation,
    SimSiam,
    Step,
    make_objective,
    output_spread,
    turn,
)
from fedcomp.training.pseudo_labels import PseudoLabels
from fedcomp.training.regularizers import Dynamic, Proximal, Regularizer
from fedcomp.training.static_norm import measure_statistics, untracked_statistics
from fedcomp.training.views import ImageViews, Views, image_views
from fedcomp.training.zeros import keep_zeros

__all__ = [
    "Batch",
    "Compute",
    "Dynamic",
    "Evaluation",
    "ImageViews",
    "LocalSettings",
    "Objective",
    "ObjectiveSettings",
    "Proximal",
    "PseudoLabels",
    "Received",
    "Regularizer",
    "Rotation",
    "SimSiam",
    "Step",
    "StrongPolicy",
    "Views",
    "check_device",
    "cutmix",
    "evaluate",
    "evaluate_logits",
    "fastest",
    "image_views",
    "keep_zeros",
    "make_objective",
    "measure_statistics",
    "memory_format",
    "output_spread",
    "predict_logits",
    "resolve_compute",
    "shuffled_batches",
    "strong_augment",
    "to_batch",
    "to_images",
    "train_locally",
    "train_on_batches",
    "turn",
    "untracked_statistics",
    "weak_augment",
]
