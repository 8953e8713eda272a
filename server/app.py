"""The ServerApp: orchestrate the rounds, aggregate compressed updates, distill the student, write the run's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord
from flwr.serverapp import ServerApp
from rich.console import Console

from fedcomp.codecs import NO_CODEC
from fedcomp.config import FLIP_OK_KEY, FROZEN_KEY, IMAGE_SHAPE_KEY, NUM_CLASSES_KEY, RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.distillation import KeptClients
from fedcomp.errors import RunError
from fedcomp.flower import (
    CheckpointFolder,
    ResumableStrategy,
    streaming,
    to_array_record,
    to_model,
)
from fedcomp.forking import die_with_parent
from fedcomp.models import build_model, get_weights
from fedcomp.reporting import Progress, RunFolder, RunRecorder, new_run_path
from fedcomp.reporting.logs import LogSettings, configure_logging
from fedcomp.run_files import CHECKPOINT_FOLDER, CLIENTS_FOLDER, STUDENT_FOLDER
from fedcomp.training import resolve_compute
from server.arrivals import wait_for_clients
from server.hearing import Hearing
from server.measuring import global_model, measurement
from server.refinement import Refinement, in_turn
from server.round_book import RoundBook
from server.shared_data import check_shared
from server.strategies import compressed_strategy
from server.student import check_student, make_student
from server.teaching import Teaching

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

    from fedcomp.data import ImageDataset
    from fedcomp.flower import CompressedStrategy
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
    held_out = hold_out(train, **config.held_out_sizes, seed=config.seed)
    check_shared(config, held_out)
    if config.evaluate_on == "validation":
        test = held_out.validation
    build = partial(build_model, image_shape=train.image_shape, num_classes=train.num_classes, seed=config.seed)
    check_student(config, build)
    model = global_model(config, train)
    initial = model.shared_weights()
    config = config.as_begun() if config.resume else resolve_compute(config, model.module, train)
    measure = measurement(config, model, held_out.labelled, test)
    teaching, refinement = Teaching(config, model, held_out), Refinement.of(config, model, held_out)
    path = Path(config.out_dir or new_run_path(config.name))
    kept = KeptClients(path / CLIENTS_FOLDER) if config.keep_clients else None
    hearing = Hearing(config, train.num_classes, teaching, kept)
    strategy = compressed_strategy(
        config,
        initial,
        refine=in_turn(teaching.fuse if config.fusion_every else None, refinement),
        on_update=hearing.hear,
        on_round=hearing.end,
    )
    # From here on there is a run: what can be refused was refused above, and left no folder.
    with (
        open_folder(config, path) as folder,
        Progress(Console(), f"{config.name}: {strategy.codec}", config.num_server_rounds) as progress,
    ):
        checkpoint = CheckpointFolder(path / CHECKPOINT_FOLDER)
        resumable = ResumableStrategy(strategy, checkpoint, every=config.checkpoint_every)
        recorder = RunRecorder(folder, progress)
        recorder.restore(folder.keep_rounds(resumable.finished_rounds))
        if config.deployed:
            wait_for_clients(grid, config, progress)
        is_new = resumable.finished_rounds == 0
        first = refinement(0, initial, progress.note) if refinement and is_new else initial
        result = resumable.start(
            streaming(
                grid, deadline=config.real_deadline, max_reply_bytes=strategy.max_reply_bytes(to_array_record(initial))
            ),
            to_array_record(first),
            num_rounds=config.num_server_rounds,
            timeout=config.round_seconds,
            train_config=ConfigRecord({**config.resolved(), **data_facts(train), FROZEN_KEY: model.frozen_fingerprint}),
            evaluate_fn=RoundBook(config, measure, hearing, recorder, progress.note).enter,
        )
        if not recorder.num_accepted:
            raise RunError(f"no update of any client could be used; the last one: {recorder.last_complaint}")
        model.set_shared(to_model(result.arrays))
        final = get_weights(model.module, (*model.parts.frozen, *model.parts.shared))
        folder.save_model(final)
        if kept:
            kept.seal()
        facts = run_facts(config, strategy, final=final, sent=initial, personal_accuracy=hearing.personal_accuracy)
        student = make_student(
            config,
            build=build,
            model=model,
            teaching=teaching,
            validation=held_out.validation,
            test=test,
            folder=path / STUDENT_FOLDER,
            summary=recorder.summary(facts),
            note=progress.note,
        )
        folder.write_summary(recorder.summary(facts | student))
        checkpoint.remove()


def data_facts(data: ImageDataset) -> dict[str, bool | int | list[int]]:
    """Return what clients must know of the data that the run is about."""
    return {IMAGE_SHAPE_KEY: list(data.image_shape), NUM_CLASSES_KEY: data.num_classes, FLIP_OK_KEY: data.flip_ok}


def run_facts(
    config: RunConfig, strategy: CompressedStrategy, *, final: Model, sent: Model, personal_accuracy: float | None
) -> dict[str, Any]:
    """Return what a run's summary tells beside sums over its rounds."""
    return {
        "name": config.name,
        "seed": config.seed,
        "codec": strategy.codec,
        "downlink": str(strategy.downlink.codec) if strategy.downlink else NO_CODEC,
        "num_parameters": sum(values.size for values in final.values()),
        "personal_accuracy": personal_accuracy,
        "num_sent_parameters": sum(values.size for values in sent.values()),
    }


def open_folder(config: RunConfig, path: Path) -> RunFolder:
    """Make the run's folder, or open the one that it began in."""
    if config.resume:
        return RunFolder(path)
    folder = RunFolder.create(str(path), config.name)
    folder.write_config(config.to_toml())
    return folder
