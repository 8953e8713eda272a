"""The simulation benchmark: figures are real, and all contestants do the same work. Never how fast."""

import itertools
import json
import os
from dataclasses import replace

import pytest

from fedcomp.benchmarks.simulation import (
    benchmark_crowd,
    benchmark_idle,
    benchmark_simulation,
    check_simulation,
    other_simulators,
    results,
)
from fedcomp.benchmarks.simulation.contest import Measured, hold_contest
from fedcomp.benchmarks.simulation.plain import make_model
from fedcomp.benchmarks.simulation.results import train_in_contest
from fedcomp.benchmarks.simulation.tree import PeakMemory, process_tree
from fedcomp.benchmarks.simulation.work import Work, load_images, partition
from fedcomp.cli import run
from fedcomp.errors import RunError, UsageError
from fedcomp.models import build_model

SMALL = {"rounds": 3, "num_clients": 6, "images": 40, "clients": 3, "batch_size": 20, "data": "random"}


@pytest.mark.parametrize("name", ["perceptron", "cnn"])
def test_plain_models_are_ours(name):
    ours = build_model(name, image_shape=(1, 28, 28), num_classes=10, seed=0)
    shapes = [[tuple(p.shape) for p in model.parameters()] for model in (make_model(name), ours)]
    assert shapes[0] == shapes[1]


def test_each_client_has_its_own_images():
    work = Work(model="perceptron", **SMALL)
    parts = partition(work)
    assert parts.shape == (6, 40)
    assert sorted(parts.reshape(-1)) == list(range(len(load_images(work)))) == list(range(240))


def test_contestants_do_the_same_work():
    results = train_in_contest(Work(model="perceptron", **SMALL), ["bare", "bare-two", "engine", "engine-stock"])
    assert {result.examples_a_round for result in results} == {120}
    assert all(result.is_complete for result in results)
    assert not check_simulation([replace(result, is_complete=False) for result in results])
    assert all(1.5 < result.loss < 3 for result in results)
    assert all(result.seconds_a_round > 0 and result.first_round > 0 for result in results)
    assert all(result.processor_over_bare > 0 for result in results)
    assert all(result.memory_gigabytes is None or 0.05 < result.memory_gigabytes < 8 for result in results)
    assert results[0].over_bare == 1
    assert {"perceptron, over the bare loop"} <= {bar.what for bar in check_simulation(results)}


def test_idle_clients_answer_all():
    (idle,) = benchmark_idle(1, ["engine-idle"], num_clients=4)
    (crowd,) = benchmark_crowd(1, num_clients=1000, clients=5)
    assert (idle.examples_a_round, crowd.examples_a_round) == (4, 5)
    assert idle.milliseconds_a_client == pytest.approx(1000 * idle.seconds_a_round / 4)
    bars = {bar.what: bar for bar in check_simulation([replace(idle, milliseconds_a_client=2.0), crowd])}
    assert not bars["own cost of a client and round, ms"].is_met
    assert "a million clients, memory, GB" in bars


def test_a_contestant_that_fails_is_quoted():
    work = Work(model="no such model", **SMALL)
    with pytest.raises(RunError, match=r"bare failed(.|\n)*KeyError: 'no such model'"):
        hold_contest({"bare": ("bare", work)})


def test_a_tree_has_its_root_and_memory():
    assert next(process_tree(os.getpid())) == os.getpid()
    with PeakMemory(os.getpid()) as watched:
        pass
    assert watched.num_bytes is None or watched.num_bytes > 1 << 20


def test_command_writes_json(tmp_path, capsys):
    path = tmp_path / "new" / "simulation.json"
    command = ["bench", "simulation", "--model", "none", "--only", "engine-idle", "--rounds", "1", "--json", str(path)]
    assert run(command) == 0
    written = json.loads(path.read_text())
    assert [row["contestant"] for row in written["results"]] == ["engine-idle"]
    assert written["results"][0]["clients_a_round"] == 200
    assert {row["simulator"] for row in written["others"]} == other_simulators().keys()
    assert any("Memory" in note for note in written["notes"])


@pytest.mark.parametrize("wrong", [["--model", "gpt"], ["--only", "nobody"]])
def test_unknown_names_are_refused(wrong, capsys):
    assert run(["bench", "simulation", *wrong]) == 2
    assert wrong[1] in capsys.readouterr().err


def test_a_contest_of_nobody_is_refused(capsys):
    assert run(["bench", "simulation", "--model", "none", "--only", "bare"]) == 2
    assert "model none and bare" in capsys.readouterr().err


def test_a_contest_of_what_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(results.importlib.util, "find_spec", lambda name: None)
    for model, only in itertools.product(("all", "none"), ("ray-stock", "ray-idle")):
        with pytest.raises(UsageError, match="without Ray: that measures nothing"):
            benchmark_simulation(model, 1, [only])


def test_processor_time_that_nobody_tells_is_no_ratio(monkeypatch):
    measured = Measured((2.0,), processor=(0.0,), first_round=1.0, loading=0.0, memory=None, examples=(120,), loss=2.0)
    monkeypatch.setattr(results, "hold_contest", lambda entries: dict.fromkeys(entries, measured))
    (bare,) = train_in_contest(Work(model="perceptron", **SMALL), ["bare"])
    assert (bare.over_bare, bare.processor_over_bare) == (1, None)
