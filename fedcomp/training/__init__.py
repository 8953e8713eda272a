"""Local training: augmentation, supervised and semi-supervised objectives, the client's loop, evaluation."""

from fedcomp.training.augment import strong_augment, weak_augment
from fedcomp.training.batches import Batch, shuffled_batches, to_batch, to_images
from fedcomp.training.calibration import fastest, resolve_compute
from fedcomp.training.compute import Compute, memory_format
from fedcomp.training.evaluation import Evaluation, evaluate, evaluate_logits, predict_logits
from fedcomp.training.local import LocalSettings, train_locally
from fedcomp.training.objectives import FixMatch, Objective, Step, Supervised, make_objective
from fedcomp.training.zeros import keep_zeros

__all__ = [
    "Batch",
    "Compute",
    "Evaluation",
    "FixMatch",
    "LocalSettings",
    "Objective",
    "Step",
    "Supervised",
    "evaluate",
    "evaluate_logits",
    "fastest",
    "keep_zeros",
    "make_objective",
    "memory_format",
    "predict_logits",
    "resolve_compute",
    "shuffled_batches",
    "strong_augment",
    "to_batch",
    "to_images",
    "train_locally",
    "weak_augment",
]
