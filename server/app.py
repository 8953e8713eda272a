"""The ServerApp: orchestrate the rounds, aggregate compressed updates, distill the student, write the run's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, MetricRecord
from flwr.serverapp import ServerApp
from rich.console import Console

from fedcomp.config import FLIP_OK_KEY, IMAGE_SHAPE_KEY, NUM_CLASSES_KEY, RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.distillation import EnsembleTeacher
from fedcomp.errors import RunError
from fedcomp.flower import (
    NO_CODEC,
    CheckpointFolder,
    CompressedStrategy,
    FrameKeys,
    GrowingBudget,
    ResumableStrategy,
    num_bytes,
    streaming,
    to_array_record,
    to_model,
)
from fedcomp.forking import die_with_parent
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.reporting import Progress, RunFolder, RunRecorder
from fedcomp.reporting.logs import LogSettings, configure_logging
from fedcomp.student import RUN_FACTS, cubic_sparsity, prune_smallest
from fedcomp.training import evaluate, resolve_compute
from fedcomp.wire import FrameLimits
from server.arrivals import wait_for_clients
from server.strategies import build_strategy
from server.student import make_student

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import Grid

    from fedcomp.data import ImageDataset
    from fedcomp.flower import AcceptedUpdate, Budget, RoundTraffic
    from fedcomp.types import Model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the whole of a federated training."""
    config = RunConfig.from_mapping(context.run_config)
    if config.deployed:
        die_with_parent()  # Flower's own end of it can hang on a SuperLink that is gone, and the next server would wait
    if logs := LogSettings.from_environment():
        configure_logging(logs, run=config.name)
    train, test = load_dataset(config.dataset, config.data_dir)
    held_out = hold_out(train, validation_size=config.validation_size, proxy_size=config.proxy_size, seed=config.seed)
    build = partial(build_model, image_shape=train.image_shape, num_classes=train.num_classes, seed=config.seed)
    model = build(config.model)
    initial = get_weights(model)
    config = config.as_begun() if config.resume else resolve_compute(config, model, train)
    ensemble = None
    if config.teacher == "ensemble":
        ensemble = EnsembleTeacher(build(config.model), held_out.proxy, held_out.validation)
    rounds: list[RoundTraffic] = []

    def let_teach(server_round: int, update: AcceptedUpdate) -> None:
        if ensemble and server_round == config.num_server_rounds:
            ensemble.add(update.client_model())

    def finish_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        metrics: dict[str, int | float | list[int] | list[float]] = {}
        if is_evaluated(config, server_round):
            set_weights(model, to_model(arrays))
            evaluation = evaluate(model, test)
            metrics = {"accuracy": evaluation.accuracy, "loss": evaluation.loss}
        if rounds:  # Flower calls this once before the first round
            recorder.record(rounds.pop(), metrics)
        return MetricRecord(metrics) if metrics else None

    dense_bytes = num_bytes(to_array_record(initial))
    strategy = CompressedStrategy(
        build_strategy(config),
        codec=config.codec,
        downlink=config.downlink,
        downlink_full=config.downlink_full,
        initial=initial if config.shared_initial else None,
        uplink_budget=growing_budget(config, config.uplink_budget_bytes, config.target_ratio, dense_bytes),
        downlink_budget=growing_budget(config, config.downlink_budget_bytes, config.downlink_target_ratio, dense_bytes),
        downlink_cache_bytes=config.downlink_cache_bytes,
        downlink_max_lag=config.downlink_max_lag,
        residual_decay=config.residual_decay,
        momentum_correction=config.momentum_correction,
        seed=config.seed,
        limits=frame_limits(config),
        clip_update_norm=config.clip_update_norm,
        authenticate=FrameKeys(config.frame_keys) if config.frame_keys else None,
        min_replies=config.min_replies,
        zeros_stay=config.prune_ratio > 0,
        refine=partial(prune_gradually, config) if config.prune_ratio else None,
        on_update=let_teach,
        on_round=rounds.append,
    )
    with (
        open_folder(config) as folder,
        Progress(Console(), f"{config.name}: {strategy.codec}", config.num_server_rounds) as progress,
    ):
        checkpoint = CheckpointFolder(folder.path / "checkpoint")
        resumable = ResumableStrategy(strategy, checkpoint, every=config.checkpoint_every)
        recorder = RunRecorder(folder, progress)
        recorder.restore(folder.keep_rounds(resumable.finished_rounds))
        if config.deployed:
            wait_for_clients(grid, config, progress)
        result = resumable.start(
            streaming(grid, deadline=config.real_deadline),
            to_array_record(initial),
            num_rounds=config.num_server_rounds,
            timeout=config.round_seconds,
            train_config=ConfigRecord({**config.resolved(), **data_facts(train)}),
            evaluate_fn=finish_round,
        )
        if not recorder.num_accepted:
            raise RunError(f"no update of any client could be used; the last one: {recorder.last_complaint}")
        final = to_model(result.arrays)
        set_weights(model, final)
        folder.save_model(final)
        facts = {
            "name": config.name,
            "seed": config.seed,
            "codec": strategy.codec,
            "downlink": str(strategy.downlink.codec) if strategy.downlink else NO_CODEC,
            "num_parameters": sum(values.size for values in final.values()),
        }
        student = {}
        if config.teacher != "none":
            so_far = recorder.summary(facts)
            student = make_student(
                config,
                build=build,
                global_model=model,
                ensemble=ensemble,
                proxy=held_out.proxy,
                validation=held_out.validation,
                test=test,
                folder=folder.path / "student",
                run={key: so_far[key] for key in RUN_FACTS if key in so_far},
                note=progress.note,
            )
        folder.write_summary(recorder.summary(facts | student))
        checkpoint.remove()


def prune_gradually(config: RunConfig, server_round: int, weights: Model) -> Model:
    """Return the global model with as many zeros as the schedule asks for after this round; clients keep them."""
    ratio = cubic_sparsity(server_round, start=config.prune_from, end=config.last_prune_round, final=config.prune_ratio)
    return prune_smallest(weights, ratio)


def data_facts(data: ImageDataset) -> dict[str, bool | int | list[int]]:
    """Return what clients must know of the data that the run is about."""
    return {IMAGE_SHAPE_KEY: list(data.image_shape), NUM_CLASSES_KEY: data.num_classes, FLIP_OK_KEY: data.flip_ok}


def open_folder(config: RunConfig) -> RunFolder:
    """Make the run's folder, or open the one that it began in."""
    if config.resume:
        return RunFolder(Path(config.out_dir))
    folder = RunFolder.create(config.out_dir, config.name)
    folder.write_config(config.to_toml())
    return folder


def is_evaluated(config: RunConfig, server_round: int) -> bool:
    """Tell whether the global model is measured after this round; it always is after the last ten."""
    return server_round % config.evaluate_every == 0 or server_round > config.num_server_rounds - 10


def growing_budget(config: RunConfig, budget_bytes: int, target_ratio: float, dense_bytes: int) -> Budget:
    """Return a budget that is given in bytes, or as a ratio to what plain arrays take; 0 for none."""
    num_bytes = budget_bytes or (int(dense_bytes / target_ratio) if target_ratio else 0)
    return GrowingBudget(num_bytes, config.num_server_rounds, config.budget_growth) if num_bytes else 0


def frame_limits(config: RunConfig) -> FrameLimits:
    """Return the caps for what a client may send."""
    caps: dict[str, float] = {"max_norm": config.max_update_norm, "max_frame_bytes": config.max_frame_bytes}
    return FrameLimits(**{name: cap for name, cap in caps.items() if cap})  # type: ignore[arg-type]
