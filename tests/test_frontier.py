"""The frontier experiment: every method is a run that can be configured, and finished runs are told."""

import json
from pathlib import Path

import pytest

from fedcomp.config import RunConfig
from fedcomp.reporting import draw_frontier, mean_and_spread
from simulations.frontier import METHODS, PARTITIONS, report, rows, runs_in

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_a_configuration(partition, method):
    config = RunConfig.from_toml(CONFIGS / f"frontier-{partition}.toml", METHODS[method])
    assert config.num_clients == 100
    assert config.num_server_rounds == 200


def write_summary(out, partition, method, seed, accuracy, uplink_bytes):
    folder = runs_in(out).folder(partition, method, seed)
    folder.mkdir(parents=True)
    summary = {
        "seed": seed,
        "codec": "q4",
        "downlink": "none",
        "accuracy_last10": accuracy,
        "uplink_bytes": uplink_bytes,
        "downlink_bytes": 1000,
        "dense_uplink_bytes": 1000,
        "dense_downlink_bytes": 1000,
        "updates_rejected": 0,
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def test_finished_runs_become_rows_a_table_and_a_picture(tmp_path, capsys):
    out, docs = tmp_path / "runs", tmp_path / "docs"
    docs.joinpath("img").mkdir(parents=True)
    write_summary(out, "iid", "float32", 0, 0.9, 1000)
    write_summary(out, "iid", "known-3300", 0, 0.88, 10)
    write_summary(out, "iid", "known-3300", 1, 0.90, 10)
    runs_in(out).folder("iid", "q4", 0).mkdir(parents=True)
    report(out, docs)
    table = capsys.readouterr().out
    assert "| iid | known-3300 | 2 | 89.00 ± 1.41 | -2.00 | 100 | 2.0 |" in table  # seed 0 alone has a float32 run
    assert "q4" not in table
    assert [json.loads(line)["method"] for line in (docs / "frontier.jsonl").read_text().splitlines()] == [
        "float32"
    ] + ["known-3300"] * 2
    assert next(iter(rows(out)))["times_up"] == 1
    assert (docs / "img" / "frontier.svg").read_bytes().startswith(b"<?xml")


def test_no_rows_are_an_empty_picture(tmp_path):
    draw_frontier([], tmp_path / "empty.svg")
    assert (tmp_path / "empty.svg").exists()


def test_the_spread_of_one_value_is_none():
    assert mean_and_spread([3.0]) == (3.0, 0.0)
