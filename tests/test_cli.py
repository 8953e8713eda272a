"""The command line: what it does, what it says, how it exits."""

import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fedcomp
from fedcomp.cli import run
from fedcomp.config import RunConfig
from fedcomp.files import pack_tensors, read_tensors

SMALL = ["num-server-rounds=2", "num-clients=3", "local-epochs=1", "distill-epochs=2"]


@pytest.fixture
def delta(tmp_path):
    path = tmp_path / "delta.safetensors"
    save_file({"w": np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32), "n": np.array([3])}, path)
    return path


@pytest.mark.parametrize(
    "command", [[], ["simulate"], ["plot"], ["student"], ["explain"], ["tune"], ["encode"], ["decode"], ["inspect"]]
)
def test_help_explains_with_an_example(command, capsys):
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example: fedcomp" in shown or not command


@pytest.mark.parametrize(
    ("command", "says"),
    [("simulate", "A run's configuration"), ("encode", "File to write"), ("student", "A finished run")],
)
def test_help_tells_what_an_argument_is(command, says, capsys):
    assert run([command, "--help"]) == 0
    assert says in capsys.readouterr().out


def test_the_version_by_either_command(capsys):
    expected = f"fedcomp {version('fedcomp')}\n"
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == expected
    command = [sys.executable, "-W", "ignore", "-m", "fedcomp", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == expected


def test_encode_inspect_decode(delta, tmp_path, capsys):
    frame, back = tmp_path / "delta.fcz", tmp_path / "back.safetensors"
    assert run(["encode", str(delta), str(frame), "--codec", "keep(below=10) | topk(density=0.1) | ternary"]) == 0
    assert f"{frame.stat().st_size} bytes" in capsys.readouterr().out
    assert run(["inspect", str(frame)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("section table", "positions", "signs", "checksum", str(frame.stat().st_size)))
    assert run(["decode", str(frame), str(back), "--like", str(delta)]) == 0
    assert np.count_nonzero(load_file(back)["w"]) == 500
    assert load_file(back)["n"] == 3


def test_a_live_models_frame_decodes_with_its_saved_model(tmp_path):
    delta = {name: np.full(3, i, np.float32) for i, name in enumerate(["zebra", "apple", "mango", "kiwi"])}
    (tmp_path / "model.safetensors").write_bytes(pack_tensors(delta))
    (tmp_path / "live.fcz").write_bytes(fedcomp.codec("lossless").encode(delta).frame)
    back = tmp_path / "back.safetensors"
    assert run(["decode", str(tmp_path / "live.fcz"), str(back), "--like", str(tmp_path / "model.safetensors")]) == 0
    decoded = read_tensors(back)
    assert list(decoded) == list(delta)
    assert all((decoded[name] == delta[name]).all() for name in delta)


def test_files_of_others_are_read_by_name(tmp_path):
    save_file({name: np.ones(1) for name in "cab"}, tmp_path / "theirs.safetensors")
    assert all(list(read_tensors(tmp_path / "theirs.safetensors")) == ["a", "b", "c"] for _ in range(20))


def test_bad_files_and_codecs_end_with_one_line(delta, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.write_bytes(b"nothing")
    cases = [
        (["inspect", str(broken)], 1, "frame has 7 bytes"),
        (["encode", str(broken), str(tmp_path / "x")], 1, "broken is no safetensors file"),
        (["encode", str(delta), str(tmp_path / "x"), "--codec", "thinn"], 2, "did you mean 'thin'"),
        (["decode", str(delta), str(tmp_path / "x"), "--like", str(delta)], 1, "begins with"),
        (["inspect", str(tmp_path / "missing")], 2, "does not exist"),
        (["inspct"], 2, "inspct"),
        (["simulate", str(broken)], 2, "broken"),
    ]
    for arguments, code, says in cases:
        assert run(arguments) == code
        captured = capsys.readouterr()
        assert says in captured.err
        assert "Traceback" not in captured.err
        assert not captured.out
    assert not (tmp_path / "x").exists()


def test_debug_shows_the_traceback(tmp_path, capsys):
    (tmp_path / "broken").write_bytes(b"nothing")
    assert run(["--debug", "inspect", str(tmp_path / "broken")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_simulate_writes_the_runs_folder_and_compares(tmp_path, capsys):
    settings = [argument for pair in SMALL for argument in ("--set", pair)]
    folder = tmp_path / "run"
    assert run(["simulate", "configs/demo.toml", *settings, "--out", str(folder), "--baseline"]) == 0
    shown = capsys.readouterr().out
    assert "float32" in shown
    summary = json.loads((folder / "summary.json").read_text())
    baseline = json.loads((folder / "baseline" / "summary.json").read_text())
    assert {
        "rounds",
        "seed",
        "codec",
        "downlink",
        "num_parameters",
        "accuracy",
        "accuracy_last10",
        "uplink_bytes",
        "downlink_bytes",
        "dense_uplink_bytes",
        "dense_downlink_bytes",
        "updates_accepted",
        "updates_rejected",
        "student_accuracy",
        "student_bytes",
        "wall_seconds",
        "peak_rss_bytes",
        "versions",
    } <= summary.keys()
    assert "student_accuracy" not in baseline
    assert summary["updates_accepted"] == 6
    assert baseline["uplink_bytes"] == baseline["dense_uplink_bytes"] == summary["dense_uplink_bytes"]
    assert summary["uplink_bytes"] * 50 < summary["dense_uplink_bytes"]
    assert summary["student_bytes"] == (folder / "student" / "student.safetensors").stat().st_size
    assert summary["student_onnx_bytes"] == (folder / "student" / "student.onnx").stat().st_size
    assert summary["student_int8_bytes"] == (folder / "student" / "student-int8.onnx").stat().st_size
    assert json.loads((folder / "student" / "card.json").read_text())["run"]["uplink_bytes"] == summary["uplink_bytes"]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    weights = load_file(folder / "model.safetensors")
    assert sum(values.size for values in weights.values()) == summary["num_parameters"]
    assert run(["simulate", str(folder / "config.toml"), "--out", str(folder)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_model(tmp_path):
    settings = [argument for pair in [*SMALL, "teacher=none", "codec=q4"] for argument in ("--set", pair)]
    for name in ("a", "b"):
        assert run(["simulate", "configs/demo.toml", *settings, "--out", str(tmp_path / name)]) == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all((first[key] == second[key]).all() for key in first)


def test_the_server_measures_once_and_clients_and_baseline_follow(tmp_path):
    settings = [argument for pair in [*SMALL, "teacher=none"] for argument in ("--set", pair)]
    arguments = ["--device", "cpu", "--precision", "auto", "--baseline", "--out", str(tmp_path / "run")]
    assert run(["simulate", "configs/demo.toml", *settings, *arguments]) == 0  # a client can't train with "auto"
    resolved, baseline = (RunConfig.from_toml(tmp_path / path / "config.toml") for path in ("run", "run/baseline"))
    assert resolved.precision in ("float32", "bfloat16")
    assert resolved.resolved() == baseline.resolved()
    assert run(["simulate", "configs/demo.toml", "--precision", "fp8"]) == 2


def test_a_run_that_can_not_work_fails_with_its_reason(tmp_path, capsys):
    settings = [argument for pair in [*SMALL, "max-update-norm=1e-9"] for argument in ("--set", pair)]
    assert run(["simulate", "configs/demo.toml", *settings, "--out", str(tmp_path / "run")]) == 1
    assert "no update of any client could be used" in (shown := capsys.readouterr()).err
    assert "norm" in shown.err
    missing = ["--set", "dataset=fashion-mnist", "--set", f"data-dir={tmp_path / 'nowhere'}"]
    assert run(["simulate", "configs/demo.toml", *missing, "--out", str(tmp_path / "other")]) == 1
    assert "make data-fashion" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("num-clients=100000", "100000 clients but 1037 images: lower num-clients"),
        ("device=cuda:99", "device is 'cuda:99', but torch finds"),
        ("device=gpu", "device is 'gpu', expected a device of torch"),
    ],
)
def test_what_no_client_could_do_is_said_before_the_first_round(tmp_path, capsys, change, says):
    assert run(["simulate", "configs/demo.toml", "--set", change, "--out", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_so_is_a_partition_that_can_not_be_made(tmp_path, capsys):
    settings = ["--set", "num-clients=300", "--set", "dirichlet-alpha=0.01"]
    assert run(["simulate", "configs/demo.toml", *settings, "--out", str(tmp_path / "run")]) == 1
    assert "no dirichlet partition of 1037 images over 300 clients" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_places_that_can_not_be_written_are_named(delta, tmp_path, capsys):
    nowhere, frame = tmp_path / "no" / "x.fcz", tmp_path / "delta.fcz"
    assert run(["encode", str(delta), str(nowhere)]) == 2
    assert f"can't write {nowhere}: No such file or directory" in capsys.readouterr().err
    assert run(["encode", str(delta), str(frame), "--codec", "lossless"]) == 0
    assert run(["decode", str(frame), str(nowhere), "--like", str(delta)]) == 2
    assert f"can't write {nowhere}" in capsys.readouterr().err
    assert run(["simulate", "configs/demo.toml", "--out", str(frame / "run")]) == 2
    assert f"can't write the run's folder {frame / 'run'}: Not a directory" in capsys.readouterr().err
