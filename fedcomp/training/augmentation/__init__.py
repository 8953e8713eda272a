"""Augmentations as batched tensor operations: each image its own parameters, no loop over images."""

from fedcomp.training.augmentation.mixing import MIXES, Mixed, cutmix, mixup
from fedcomp.training.augmentation.strong import StrongPolicy, cut_out, rand_augment, strong_augment
from fedcomp.training.augmentation.weak import weak_augment

__all__ = [
    "MIXES",
    "Mixed",
    "StrongPolicy",
    "cut_out",
    "cutmix",
    "mixup",
    "rand_augment",
    "strong_augment",
    "weak_augment",
]
