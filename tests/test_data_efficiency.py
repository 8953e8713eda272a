"""The data-efficiency experiment: every method can be configured, runs are shared and told."""

import json
from pathlib import Path

import pytest

from fedcomp.config import RunConfig
from fedcomp.simulation.grid_of_runs import GridOfRuns
from fedcomp.training import evaluate
from simulations import data_efficiency
from simulations.data_efficiency import LABELS_ONLY, TABLES, report, rows, run_one, train_on_labels_only

CONFIGS = Path(__file__).parent.parent / "configs"
METHODS = [(table, method) for table, (_, methods) in TABLES.items() for method in methods]


@pytest.mark.parametrize(("table", "method"), METHODS)
def test_every_method_is_a_configuration_within_reach_of_an_hour(table, method):
    config, methods = TABLES[table]
    resolved = RunConfig.from_toml(CONFIGS / f"{config}.toml", methods[method])
    assert resolved.num_clients == 100
    assert resolved.clients_per_round * resolved.num_server_rounds <= 2100


def write_run(folder, accuracy, uplink_bytes=10, rows=()):
    folder.mkdir(parents=True)
    summary = {"seed": int(folder.name), "codec": "thin", "accuracy_last10": accuracy}
    sent = {"uplink_bytes": uplink_bytes, "dense_uplink_bytes": 100 * uplink_bytes}
    (folder / "summary.json").write_text(json.dumps(summary | sent))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_finished_runs_become_rows_and_tables_share_them(tmp_path, capsys):
    grid = GridOfRuns(tmp_path / "runs", CONFIGS)
    measured = [
        {"round": n, "uplink_bytes": 1, "downlink_bytes": 1, "pseudo_coverage": 0.5, "pseudo_accuracy": 0.9}
        for n in (1, 2)
    ]
    for seed, accuracy in enumerate((0.86, 0.88)):
        write_run(grid.folder("fashion-server-1000", "server-1000-thin", seed), accuracy, rows=measured)
    write_run(grid.folder("fashion-server-1000", f"server-1000-{LABELS_ONLY}", 0), 0.8, uplink_bytes=0)
    report(grid, tmp_path)
    told = capsys.readouterr().out
    assert "| thin | 2 | 87.00 ± 1.41 | 100 | 50.0 | 90.0 |" in told
    assert f"| {LABELS_ONLY} | 1 | 80.00 ± 0.00 |  |  |  |" in told
    found = [json.loads(line) for line in (tmp_path / "data-efficiency.jsonl").read_text().splitlines()]
    # The same configuration is the middle of another table: it is run once.
    assert {(row["table"], row["method"]) for row in found if row["method"] != LABELS_ONLY} == {
        ("server-1000", "thin"),
        ("compression", "thin"),
    }
    assert "two-classes" not in told


def test_a_run_that_was_asked_for_with_other_changes_is_told(tmp_path, caplog):
    grid = GridOfRuns(tmp_path, CONFIGS)
    folder = grid.folder("demo", "q8", 0)
    write_run(folder, 0.7)
    (folder / "config.toml").write_text(grid.config("demo", ["seed=0", "name=q8", "codec=q8"]).to_toml())
    assert grid.run("demo", "q8", 0, ["codec=q8"])["accuracy_last10"] == 0.7
    assert not caplog.records
    assert grid.run("demo", "q8", 0, ["codec=q8", "learning-rate=0.1"])["accuracy_last10"] == 0.7
    assert "learning-rate is 0.1, but the run in" in caplog.text


def test_what_a_method_goes_on_from_is_run_before_it_and_its_bytes_count(tmp_path):
    grid = GridOfRuns(tmp_path, CONFIGS)
    small = ["dataset=digits", "num-clients=4", "fraction-train=0.5", "num-server-rounds=1", "validation-size=100"]
    run_one(grid, "two-classes", "thin", 0, 0, small)
    (first, pretrained), (second, summary) = (
        next(iter(grid.finished(*names)))
        for names in (("fashion-rotation", "pretraining"), ("fashion-two-classes", "two-classes-thin"))
    )
    assert f"simplex:run:{first}" in (second / "config.toml").read_text()
    (row,) = rows(grid)
    assert row["uplink_bytes"] == pretrained["uplink_bytes"] + summary["uplink_bytes"]
    assert row["dense_uplink_bytes"] == pretrained["dense_uplink_bytes"] + summary["dense_uplink_bytes"]
    assert row["accuracy_last10"] == summary["accuracy_last10"]
    (first / "summary.json").unlink()
    assert not list(rows(grid))


def test_labels_only_is_a_finished_run_that_is_not_done_again(tmp_path, monkeypatch):
    grid = GridOfRuns(tmp_path, CONFIGS)
    small = ["dataset=digits", "model=perceptron", "num-server-rounds=2", "validation-size=100", "server-labels=50"]
    small += ["warm-up-epochs=10"]
    measured = []
    monkeypatch.setattr(data_efficiency, "evaluate", lambda *args: measured.append(evaluate(*args)) or measured[-1])
    run_one(grid, "server-1000", LABELS_ONLY, 0, None, small)
    assert len(measured) == 2  # of the rounds, as in a run
    (folder, summary) = next(iter(grid.finished("fashion-server-1000", f"server-1000-{LABELS_ONLY}")))
    assert 0 < summary["accuracy_last10"] <= 1
    assert summary["uplink_bytes"] == 0
    before = (folder / "summary.json").stat().st_mtime_ns
    run_one(grid, "server-1000", LABELS_ONLY, 0, None, small)
    assert (folder / "summary.json").stat().st_mtime_ns == before
    assert callable(train_on_labels_only)
