"""fedcomp's own ClientApp and strategy on its engine, without a codec: the work is the bare loop's."""

from __future__ import annotations

import importlib
import logging
import mmap
import struct
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.benchmarks.simulation.stock import RoundsInTurn, fractions
from fedcomp.benchmarks.simulation.work import load_images
from fedcomp.codecs import NO_CODEC
from fedcomp.config import FLIP_OK_KEY, IMAGE_SHAPE_KEY, NUM_CLASSES_KEY, RunConfig
from fedcomp.flower import CompressedStrategy, to_array_record
from fedcomp.models import build_model, get_weights
from fedcomp.simulation import flower_log_level, run_app

if TYPE_CHECKING:
    from types import ModuleType

    from flwr.app import Context
    from flwr.serverapp import Grid

    from fedcomp.benchmarks.simulation.turns import Turns
    from fedcomp.benchmarks.simulation.work import Work


def run_own_app(work: Work, turns: Turns, *, num_workers: int) -> None:
    """Run all rounds, one each turn."""
    client = importlib.import_module("clients.app")  # above this package, as in `fedcomp.simulation.experiment`
    loading = mmap.mmap(-1, struct.calcsize("d"))  # shared with the process that loads
    with tempfile.TemporaryDirectory() as folder, flower_log_level(logging.ERROR):
        config = RunConfig.from_mapping(_settings(work, Path(folder)))
        run_app(
            _make_server(work, turns),
            client.app,
            num_nodes=work.num_clients,
            num_workers=num_workers,
            run_config=config.to_mapping(),
            warm_up=partial(_warm_up, client, config, loading),
        )
        turns.loading(struct.unpack("d", loading[:])[0])


def _warm_up(client: ModuleType, config: RunConfig, loading: mmap.mmap) -> None:
    """Warm up as `fedcomp simulate` does, and leave word of what loading took."""
    started = time.perf_counter()
    importlib.import_module("clients.data").all_clients_images(config)
    loading[:] = struct.pack("d", time.perf_counter() - started)
    client.warm_up(config)


def _make_server(work: Work, turns: Turns) -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        rounds = RoundsInTurn(turns)
        initial = build_model(work.model, image_shape=(1, 28, 28), num_classes=10, seed=0)
        inner = FedAvg(**fractions(work), train_metrics_aggr_fn=rounds.sum_up)
        CompressedStrategy(inner, codec=NO_CODEC).start(
            grid,
            to_array_record(get_weights(initial)),
            num_rounds=work.rounds,
            train_config=ConfigRecord({IMAGE_SHAPE_KEY: [1, 28, 28], NUM_CLASSES_KEY: 10, FLIP_OK_KEY: False}),
            evaluate_fn=rounds.between(work.rounds),
        )

    return app


def _settings(work: Work, folder: Path) -> dict[str, bool | int | float | str]:
    return _data_settings(work, folder) | {
        "name": "benchmark",
        "num-clients": work.num_clients,
        "num-server-rounds": work.rounds,
        "fraction-train": work.clients / work.num_clients,
        "partition": "iid",
        "label-fraction": 1.0,
        "validation-size": 0,
        "proxy-size": 0,
        "model": work.model,
        "precision": work.precision,
        "objective": "supervised",
        "augment": False,
        "local-epochs": 1,
        "batch-size": work.batch_size,
        "learning-rate": work.learning_rate,
        "learning-rate-schedule": "constant",
        "momentum": 0.0,
        "weight-decay": 0.0,
        "codec": NO_CODEC,
        "teacher": "none",
    }


def _data_settings(work: Work, folder: Path) -> dict[str, bool | int | float | str]:
    """Return where the images are: random ones, and a part of the data set, become a file."""
    if work.data != "random" and work.num_clients * work.images == 60_000:
        return {"dataset": work.data}
    images, path = load_images(work), folder / "images.npz"
    np.savez(path, x_train=images.images, y_train=images.labels, x_test=images.images[:10], y_test=images.labels[:10])
    return {"dataset": "npz", "data-dir": str(path)}
