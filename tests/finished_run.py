"""A finished run's folder, made by hand in a second."""

import json

import torch

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.files import pack_tensors
from fedcomp.models import build_model, get_weights


def make_run(folder, **changes):
    """Train a perceptron on digits, as a run would leave it in a new folder."""
    folder.mkdir()
    config = RunConfig.from_mapping({"name": "tiny", "model": "perceptron", "teacher": "none", **changes})
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
