"""Benchmarks measure what they say; never how fast."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from fedcomp.benchmarks import benchmark_codecs, check_bars, compare_sparse, compare_symbols, synthetic_deltas
from fedcomp.benchmarks.bars import at_least, at_most
from fedcomp.benchmarks.codecs import TOP_1_PER_CENT
from fedcomp.benchmarks.memory import peak_memory
from fedcomp.benchmarks.updates import train_updates, training_updates
from fedcomp.cli import run
from fedcomp.config import RunConfig
from fedcomp.files import pack_tensors


def test_sizes_are_those_of_the_frames():
    delta = synthetic_deltas(20_000)
    (result, other) = benchmark_codecs(delta, [TOP_1_PER_CENT])
    assert (result.delta, other.delta) == ("laplace", "gauss")
    assert result.times_smaller == 80_000 / result.num_bytes
    assert 1 <= result.positions_over_entropy < 1.3
    assert 0 < result.nmse < 1
    assert result.encode_over_memcpy > 0


def test_peers_write_the_same_and_entropy_is_a_floor():
    delta = synthetic_deltas(50_000)["laplace"]
    results = {r.peer: r for r in compare_symbols(delta, 4) if r.num_bytes}
    assert all(r.over_entropy >= 0.99 for r in results.values())
    assert results["fedcomp"].over_fedcomp == 1
    assert results["fedcomp"].over_entropy == min(r.over_entropy for r in results.values())
    sparse = {r.peer: r.num_bytes for r in compare_sparse(delta, 0.01)}
    assert sparse["int64 + float32 (as FedLab)"] == 500 * 12
    assert sparse["fedcomp"] < sparse["gzip over float32 (as OpenFL)"]


def test_grouping_beats_zstd_on_structured_updates():
    rng = np.random.default_rng(0)
    scales = np.outer(np.exp2(rng.uniform(-6, 0, 200)), np.exp2(rng.uniform(-6, 0, 300)))
    delta = {"w": (rng.laplace(size=(200, 300)) * scales).astype(np.float32)}
    results = {r.peer: r for r in compare_symbols(delta, 6) if r.num_bytes}
    assert results["zstd level 19"].over_fedcomp > 1.05
    assert results["fedcomp"].over_entropy < 0.9


def test_bars_say_what_is_met():
    delta = synthetic_deltas(50_000)
    results = benchmark_codecs(delta, [TOP_1_PER_CENT, "uniform(bits=4)"])
    peers = [("laplace", peer) for peer in compare_sparse(delta["laplace"], 0.01)]
    bars = {bar.what: bar for bar in check_bars(results, peers)}
    assert bars["positions over h(p), i.i.d."].promise == "<= 1.02"
    assert bars["less than gzip over float32, bytes"].is_met
    assert not any("rotated" in what for what in bars)
    worse = [replace(result, header_bytes=99) for result in results]
    assert not {bar.what: bar for bar in check_bars(worse, [])}["header and checks of a sparse update, bytes"].is_met


def test_peak_memory_sees_what_libraries_allocate():
    size = 32 << 20
    peak = peak_memory(lambda: np.ones(size, np.uint8))
    if peak is None:
        pytest.skip("this system does not tell")
    assert size * 0.95 < peak < size * 1.5


def test_real_updates_are_those_of_a_training_client():
    config = RunConfig.from_mapping({"name": "d", "codec": "topk(density=0.01) | ternary"})
    updates = train_updates(config, num_rounds=2, clients_a_round=2)
    fresh, total = updates["d fresh"], updates["d total"]
    assert any(np.any(fresh[name] != total[name]) for name in fresh)
    assert sum(np.square(total[name]).sum() for name in total) > sum(np.square(fresh[name]).sum() for name in fresh)


def test_rounds_beyond_the_configurations_are_trained_too():
    asked = {"name": "d", "model": "perceptron", "num-server-rounds": 1, "num-clients": 5}
    *_, last = training_updates(RunConfig.from_mapping(asked), num_rounds=2, draw=lambda _: [0])
    assert last.server_round == 2
    assert any(np.any(values) for values in last.fresh.values())


def test_a_bar_is_not_met_by_what_is_no_number():
    for values in ([0.5, math.nan], [math.nan, 0.5]):
        for bar in (at_most("x", 1.0, values), at_least("x", 0.1, values)):
            assert (bar.measured, bar.is_met) == ("nan", False)
    assert at_most("x", 1.0, [None]) is at_least("x", 1.0, []) is None
    assert [at_most("x", 1, [1, 0]).is_met, at_least("x", 1, [1, 2]).is_met] == [True, True]


def test_bench_of_nothing_is_refused(tmp_path, capsys):
    assert run(["bench", "codecs", "--parameters", "0", "--rounds", "0"]) == 2
    assert "no update to measure" in capsys.readouterr().err
    paths = [tmp_path / folder / "update.safetensors" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(pack_tensors({"w": np.ones(4, np.float32)}))
    command = ["bench", "codecs", "--parameters", "0", "--rounds", "0"]
    assert run([*command, *(part for path in paths for part in ("--delta", str(path)))]) == 2
    assert "two updates are called update" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--rounds", "0", "--codec", "thin", "--codec", "q4"], ["--rounds", "1"]])
def test_bench_command_writes_json_and_draws(tmp_path, arguments, capsys):
    path = tmp_path / "new" / "codecs.json"
    plots = ["--plots", str(tmp_path / "plots")] if "0" in arguments else ["--codec", "q8"]
    command = ["bench", "codecs", "--parameters", "5000", "--json", str(path), *arguments, *plots]
    assert run(command) == 0
    written = json.loads(path.read_text())
    assert {row["delta"] for row in written["codecs"]} >= {"laplace", "gauss"}
    whats = {f"{bits}-bit symbols" for bits in (4, 6, 8)} | {"top 1.00% ternary", "top 0.25% ternary"}
    assert {row["what"] for row in written["peers"]} == whats
    assert all(np.isfinite(row["nmse"]) for row in written["codecs"])
    assert all(bar["promise"] for bar in written["bars"])
    if "--plots" in command:
        assert {p.name for p in (tmp_path / "plots").iterdir()} == {"rate-distortion.svg", "throughput.svg"}
        assert "deadzone" in (tmp_path / "plots" / "throughput.svg").read_text()
    else:
        assert {row["delta"] for row in written["codecs"]} == {"laplace", "gauss", "digits fresh", "digits total"}


def test_context_bench_measures_what_knowing_the_models_saves(tmp_path, capsys):
    path = tmp_path / "context.json"
    command = ["bench", "context", "--density", "0.01", "--round", "2", "--json", str(path)]
    assert run(command) == 0
    written = json.loads(path.read_text())
    assert [row["round"] for row in written["context"]] == [2, 2, 2]  # three clients
    assert all(0 < row["over_blind"] <= 1 for row in written["context"])
    assert all(row["over_bound"] < 1.2 and row["known_bytes"] > 0 for row in written["context"])
    signals = written["context"][0]["signals_over_bound"]
    assert signals.keys() == {"all", "own", "lines", "learned", "none"}
    assert max(signals["all"], signals["learned"]) < signals["none"]
    assert {bar["what"] for bar in written["bars"]} >= {"top 1.00%, over bound", "top 1.00%, over gaps"}
    assert "is met" in capsys.readouterr().out
