"""What do few labels buy, and what does compression cost them? Each table, method and seed is a run.

::

    python -m simulations.data_efficiency run --out RUNS [--tables server-1000] [--methods thin] [--seeds 0 1 2]
    python -m simulations.data_efficiency report --out RUNS
    python -m simulations.data_efficiency run --out TUNING --set evaluate-on=validation fine-tune-learning-rate=0.05

Finished runs are rows and are not done again, and one that was broken off goes on after its last round. What `--set`
changes is changed in pretraining, too, but for the objective, the model and what is frozen of it.
`docs/data-efficiency.md` tells what came out. Hyperparameters are chosen by the third line, never on the test set.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.models import get_weights
from fedcomp.reporting import LAST_ROUNDS, RunFolder, RunHistory, mean_and_spread, update_rows
from fedcomp.run_files import METRICS_FILE, SUMMARY_FILE
from fedcomp.simulation.grid_of_runs import GridOfRuns
from fedcomp.training import evaluate
from server.measuring import global_model
from server.refinement import Refinement
from simulations.grid_arguments import grid_parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fedcomp.types import Model

_log = logging.getLogger(__name__)
_CONFIGS = Path(__file__).parent.parent / "configs"
LABELS_ONLY = "labels-only"
"""The method in which the server trains on its labels as it does in the run, and no client on anything."""
_PRETRAINING = "pretraining"
"""The method of a run that other runs go on from."""
_OF_ONE_RUN = {"objective", "model", "frozen"}
"""Keys that mean something else in what is run before."""


class Table(NamedTuple):
    """Methods that are compared with each other.

    Args:
        config: Name of their configuration file. Where its model goes on from ``run:FOLDER/NAME``, the configuration
            NAME is run before it, with the same seed.
        methods: What each changes in it.
    """

    config: str
    methods: Mapping[str, tuple[str, ...]]


_LIVE, _BROADCAST = "pseudo-labels=live", "pseudo-labels=broadcast"
_NO_SERVER = ("labels-at=clients", "server-labels=0", "fine-tune-epochs=0", "weight-by=examples")
_FIXED, _ADAPTIVE = ("threshold=fixed",), ("threshold=adaptive", "threshold-decay=1.0")
# Without labels at the server, as many of them are spread over the clients: 1,000 of 57,000 images.
_SPREAD = (*_NO_SERVER, "label-fraction=0.0175")
# Without pretraining, as many rounds are spent on labels.
_NO_PRETRAINING = ("num-server-rounds=210",)
_PLAIN = ("model=resnet8-gn", "frozen=")

TABLES: Mapping[str, Table] = {
    "server-1000": Table("fashion-server-1000", {"thin": (), LABELS_ONLY: ()}),
    "server-100": Table("fashion-server-100", {"thin": (), LABELS_ONLY: ()}),
    "two-classes": Table(
        "fashion-two-classes",
        {
            "thin": (),
            "guesses": ("objective=fixmatch", _BROADCAST, *_ADAPTIVE),
            "fixed-head": ("model=simplex:resnet8-gn", *_NO_PRETRAINING),
            "supervised": (*_PLAIN, *_NO_PRETRAINING),
            "fixmatch": (*_PLAIN, *_NO_PRETRAINING, "objective=fixmatch", _LIVE, *_FIXED),
        },
    ),
    "ablation": Table(
        "fashion-semifl",
        {
            "fixmatch": (_LIVE, *_SPREAD),
            "global-labels": (_BROADCAST, *_SPREAD),
            "fine-tune": (_LIVE,),
            "both": (_BROADCAST,),
            "adaptive": (_BROADCAST, *_ADAPTIVE),
            "mixup": (_BROADCAST, "mix-weight=1.0"),
        },
    ),
    "compression": Table(
        "fashion-server-1000",
        {
            "float32": ("codec=none",),
            "q8": ("codec=q8",),
            "q4": ("codec=q4",),
            "thin": ("codec=thin",),
            "ultra": ("codec=ultra",),
        },
    ),
}


def train_on_labels_only(config: RunConfig) -> None:
    """Do what the server of a run does to its model in all rounds, without what clients send; write a run's folder."""
    train, test = load_dataset(config.dataset, config.data_dir)
    held_out = hold_out(train, **config.held_out_sizes, seed=config.seed)
    model = global_model(config, train)
    refine = Refinement(config, model, held_out)
    weights: Model = model.shared_weights()
    measured_on = held_out.validation if config.evaluate_on == "validation" else test
    accuracies = []
    for server_round in range(config.num_server_rounds + 1):
        weights = refine(server_round, weights, print)
        if server_round > max(0, config.num_server_rounds - LAST_ROUNDS):  # as in a run, whose rows begin with round 1
            model.set_shared(weights)
            accuracies.append(evaluate(model.module, measured_on).accuracy)
    with RunFolder.create(config.out_dir, config.name) as folder:
        folder.write_config(config.to_toml())
        folder.save_model(get_weights(model.module))
        last10 = sum(accuracies) / len(accuracies)
        sent = {"uplink_bytes": 0, "downlink_bytes": 0, "dense_uplink_bytes": 0, "dense_downlink_bytes": 0}
        folder.write_summary({"seed": config.seed, "codec": "none", "accuracy_last10": last10, **sent})


def run_one(
    grid: GridOfRuns, table: str, method: str, seed: int, num_workers: int | None, extra: Iterable[str]
) -> None:
    """Do a run of a table, or go on with it."""
    config, methods = TABLES[table]
    overrides = [*methods[method], *extra]
    folder = grid.folder(config, _folder_name(grid, table, method), seed)
    if earlier := _earlier(grid.config(config, overrides)):
        shared = [change for change in extra if change.partition("=")[0] not in _OF_ONE_RUN]
        grid.run(earlier.config, _PRETRAINING, seed, shared, num_workers=num_workers)
        overrides.append(f"model={earlier.prefix}{grid.folder(earlier.config, _PRETRAINING, seed).resolve()}")
    if method != LABELS_ONLY:
        grid.run(config, _folder_name(grid, table, method), seed, overrides, num_workers=num_workers)
    elif not (folder / SUMMARY_FILE).is_file():
        own = [f"seed={seed}", f"name={method}", f"out-dir={folder}"]
        train_on_labels_only(RunConfig.from_toml(_CONFIGS / f"{config}.toml", [*own, *overrides]))


def rows(grid: GridOfRuns) -> Iterator[dict[str, Any]]:
    """Yield a row for each finished run, its bytes with those of pretraining; pseudo-labels are means of ten rounds."""
    for table, (config, methods) in TABLES.items():
        for method in methods:
            earlier = _earlier(grid.config(config, methods[method]))
            pretraining = {s["seed"]: s for _, s in grid.finished(earlier.config, _PRETRAINING)} if earlier else {}
            for folder, summary in grid.finished(config, _folder_name(grid, table, method)):
                if earlier and summary["seed"] not in pretraining:
                    _log.warning("%s is left out: what it went on from is not in %s", folder, grid.out / earlier.config)
                    continue
                stages = [summary, *([pretraining[summary["seed"]]] if earlier else [])]
                yield {
                    "table": table,
                    "method": method,
                    "seed": summary["seed"],
                    "codec": summary["codec"],
                    "accuracy_last10": summary["accuracy_last10"],
                    **{key: sum(s[key] for s in stages) for key in ("uplink_bytes", "dense_uplink_bytes")},
                    **_pseudo_labels(folder),
                }


def report(grid: GridOfRuns, docs: Path) -> None:
    """Add the rows to those in `docs`, and print a table of means for each table that has any."""
    found = update_rows(docs / "data-efficiency.jsonl", rows(grid), key=("table", "method", "seed"))
    for table, (_, methods) in TABLES.items():
        own = {method: [r for r in found if (r["table"], r["method"]) == (table, method)] for method in methods}
        if not any(own.values()):
            continue
        print(f"\n### {table}\n")
        print("| method | seeds | accuracy | times fewer bytes up | pseudo-labels: coverage | right |")
        print("|---|---|---|---|---|---|")
        for method, of_method in own.items():
            if of_method:
                print(f"| {method} | {len(of_method)} | {' | '.join(_cells(of_method))} |")


def _folder_name(grid: GridOfRuns, table: str, method: str) -> str:
    """Return the method's folder: methods that come to the same configuration share their runs."""
    if method == LABELS_ONLY:
        return f"{table}-{method}"
    config, methods = TABLES[table]
    asked = grid.config(config, methods[method])
    same = (
        f"{other}-{name}"
        for other, (other_config, others) in TABLES.items()
        for name, changes in others.items()
        if other_config == config and name != LABELS_ONLY and grid.config(config, changes) == asked
    )
    return next(same)


class _Earlier(NamedTuple):
    """The run that another one goes on from: its configuration, and what the model's name is before its folder."""

    config: str
    prefix: str


def _earlier(config: RunConfig) -> _Earlier | None:
    """Return what a run goes on from, None if it begins with a new model."""
    form, is_run, folder = config.model.partition("run:")
    return _Earlier(Path(folder).name, form + is_run) if is_run else None


def _pseudo_labels(folder: Path) -> dict[str, float]:
    """Return coverage and accuracy of a run's pseudo-labels, where it had any."""
    if not (folder / METRICS_FILE).stat().st_size:
        return {}
    last = RunHistory.read(folder).rows[-LAST_ROUNDS:]
    measured = {key: [row[key] for row in last if key in row] for key in ("pseudo_coverage", "pseudo_accuracy")}
    return {key: sum(values) / len(values) for key, values in measured.items() if values}


def _cells(own: list[Mapping[str, Any]]) -> Iterator[str]:
    mean, spread = mean_and_spread([100 * row["accuracy_last10"] for row in own])
    yield f"{mean:.2f} ± {spread:.2f}"
    sent = [row for row in own if row["uplink_bytes"]]
    ratios = [row["dense_uplink_bytes"] / row["uplink_bytes"] for row in sent]
    yield f"{mean_and_spread(ratios)[0]:,.0f}" if ratios else ""
    for key in ("pseudo_coverage", "pseudo_accuracy"):
        values = [100 * row[key] for row in own if key in row]
        yield f"{mean_and_spread(values)[0]:.1f}" if values else ""


def main() -> None:
    """Run the tables, or report what there is of them."""
    parser = grid_parser(__doc__)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--methods", nargs="+", default=None, help="default all of a table")
    arguments = parser.parse_args()
    grid = GridOfRuns(arguments.out, _CONFIGS)
    if arguments.command == "report":
        report(grid, arguments.docs)
        return
    chosen = [(table, method) for table in arguments.tables for method in TABLES[table].methods]
    unknown = set(arguments.methods or []) - {method for _, method in chosen}
    if unknown:
        parser.error(f"no method {', '.join(sorted(unknown))} in {', '.join(arguments.tables)}")
    for seed in arguments.seeds:
        for table, method in chosen:
            if arguments.methods is None or method in arguments.methods:
                run_one(grid, table, method, seed, arguments.workers, arguments.set)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
