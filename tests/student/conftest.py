"""A run's folder and its student, made once: exporters take seconds."""

import numpy as np
import pytest

from fedcomp.data import ImageDataset
from fedcomp.student import student_from_run
from tests.finished_run import make_run

CHANGES = {
    "student-model": "student-pyramid(width=0.5)",
    "distill-epochs": 30,
    "distill-learning-rate": 0.01,
    "student-prune": 0.3,
    "student-quantize": "qat",
    "student-bits": "*=2, *=8, 8.weight=4",
}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def made(run_folder):
    """The card and the folder of a student that was pruned and quantized in training."""
    out = run_folder.parent / "phone"
    notes = []
    card = student_from_run(run_folder, out, changes=CHANGES, command="fedcomp student RUN", note=notes.append)
    return card, out, notes


@pytest.fixture(scope="session")
def halves():
    """Two classes: bright above or bright below."""
    labels = np.arange(120) % 2
    pixels = np.random.default_rng(0).integers(0, 90, (120, 1, 8, 8), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[0, 4 * label : 4 * label + 4] += 150
    return ImageDataset("halves", pixels, labels, num_classes=2)
