"""Local training: augmentation, supervised and semi-supervised objectives, the client's loop, evaluation."""

from fedcomp.training.augment import strong_augment, weak_augment
from fedcomp.training.batches import Batch, shuffled_batches, to_batch, to_images
from fedcomp.training.calibration import fastest, resolve_compute
from fedcomp.training.compute import Compute, memory_format
from fedcomp.training.evaluation import Evaluation, evaluate, evaluate_logits, predict_logits
from fedcomp.training.local import LocalSettings, train_locally, train_on_batches
from fedcomp.training.objectives import FixMatch, Objective, Supervised, make_objective
from fedcomp.training.regularizers import Dynamic, Proximal, Regularizer
from fedcomp.training.simsiam import SimSiam, output_spread
from fedcomp.training.step import Step
from fedcomp.training.views import ImageViews, Views

__all__ = [
    "Batch",
    "Compute",
    "Dynamic",
    "Evaluation",
    "FixMatch",
    "ImageViews",
    "LocalSettings",
    "Objective",
    "Proximal",
    "Regularizer",
    "SimSiam",
    "Step",
    "Supervised",
    "Views",
    "evaluate",
    "evaluate_logits",
    "fastest",
    "make_objective",
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
    "weak_augment",
]
