"""The server prunes, clients keep what is pruned, and fewer bytes travel."""

import json

from fedcomp.cli import run
from fedcomp.files import read_tensors
from fedcomp.student import sparsity

SETTINGS = ["num-server-rounds=3", "num-clients=2", "local-epochs=1", "teacher=none", "codec=uniform(bits=4)"]


def test_pruned_weights_are_neither_trained_nor_sent(tmp_path):
    sent = {}
    for ratio in (0.0, 0.9):
        out = tmp_path / str(ratio)
        pairs = [*SETTINGS, f"prune-ratio={ratio}", "prune-until=1"]
        settings = [argument for pair in pairs for argument in ("--set", pair)]
        assert run(["simulate", "configs/demo.toml", *settings, "--out", str(out), "--workers", "0"]) == 0
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        sent[ratio] = rows[-1]["uplink_bytes"]
        assert sparsity(read_tensors(out / "model.safetensors")) >= ratio
    assert sent[0.9] < 0.4 * sent[0.0]
