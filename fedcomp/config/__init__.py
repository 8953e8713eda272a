"""The configuration of a run: its keys, what is impossible between them, and the words that go with them."""

from fedcomp.config.run_config import PATH_KEYS, RunConfig, cosine_factor, parse_override
from fedcomp.config.vocabulary import (
    AUTO,
    FLIP_OK_KEY,
    FROZEN_KEY,
    IMAGE_SHAPE_KEY,
    NUM_CLASSES_KEY,
    PARTICIPANTS_KEY,
    PERSONAL_ACCURACY_KEY,
    PERSONAL_EXAMPLES_KEY,
    PRETRAINING,
    RESOLVED_KEYS,
    STUDENT_BITS,
)

__all__ = [
    "AUTO",
    "FLIP_OK_KEY",
    "FROZEN_KEY",
    "IMAGE_SHAPE_KEY",
    "NUM_CLASSES_KEY",
    "PARTICIPANTS_KEY",
    "PATH_KEYS",
    "PERSONAL_ACCURACY_KEY",
    "PERSONAL_EXAMPLES_KEY",
    "PRETRAINING",
    "RESOLVED_KEYS",
    "STUDENT_BITS",
    "RunConfig",
    "cosine_factor",
    "parse_override",
]
