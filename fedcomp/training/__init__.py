"""Local training: augmentation, supervised and semi-supervised objectives, the client's loop, evaluation."""

from fedcomp.training.augment import strong_augment, weak_augment
from fedcomp.training.batches import Batch, shuffled_batches, to_batch, to_images
from fedcomp.training.calibration import fastest, resolve_compute
from fedcomp.training.compute import Compute, memory_format
from fedcomp.training.evaluation import Evaluation, evaluate, predict_logits
from fedcomp.training.local import LocalSettings, train_locally, train_on_batches
from fedcomp.training.objectives import FixMatch, Objective, Step, Supervised, make_objective
from fedcomp.training.regularizers import Dynamic, Proximal, Regularizer
from fedcomp.training.views import Views, image_views

__all__ = [
    "Batch",
    "Compute",
    "Dynamic",
    "Evaluation",
    "FixMatch",
    "LocalSettings",
    "Objective",
    "Proximal",
    "Regularizer",
    "Step",
    "Supervised",
    "Views",
    "evaluate",
    "fastest",
    "image_views",
    "make_objective",
    "memory_format",
    "predict_logits",
    "resolve_compute",
    "shuffled_batches",
    "strong_augment",
    "to_batch",
    "to_images",
    "train_locally",
    "train_on_batches",
    "weak_augment",
]
