"""A run's folder and its student, made once: exporters take seconds."""

import json

import numpy as np
import pytest
import torch

from fedcomp.config import RunConfig
from fedcomp.data import ImageDataset, hold_out, load_dataset
from fedcomp.files import pack_tensors
from fedcomp.models import build_model, get_weights
from fedcomp.student import student_from_run

CHANGES = {
    "student-model": "student-pyramid(width=0.5)",
    "distill-epochs": 30,
    "distill-learning-rate": 0.01,
    "student-prune": 0.3,
    "student-quantize": "qat",
}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    config = RunConfig.from_mapping({"name": "tiny", "model": "perceptron", "teacher": "none"})
    (folder / "config.toml").write_text(config.to_toml())
    train, _ = load_dataset("digits", "")
    clients = hold_out(train, validation_size=100, proxy_size=300, seed=0).clients
    model = build_model("perceptron", image_shape=(1, 8, 8), num_classes=10, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    images, labels = torch.from_numpy(clients.images / 255).float(), torch.from_numpy(clients.labels)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    (folder / "model.safetensors").write_bytes(pack_tensors(get_weights(model)))
    (folder / "summary.json").write_text(json.dumps({"name": "tiny", "rounds": 3, "uplink_bytes": 12345}))
    return folder


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
