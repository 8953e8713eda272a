"""Killed at any moment and resumed, a run ends as if nothing had happened, bit for bit."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedcomp.cli import run

SMALL = [
    "student-export=false",
    "model=perceptron",
    "num-clients=8",
    "fraction-train=0.75",
    "num-server-rounds=5",
    "local-epochs=1",
    "objective=supervised",
    "distill-epochs=2",
]
SETTINGS = {
    "error feedback, FedAdam": [*SMALL, "teacher=none", "strategy=fedadam", "server-learning-rate=0.01"],
    "low rank, FedAvgM, network, student, clients": [
        *SMALL,
        "codec=lowrank(rank=2) | uniform(bits=4)",
        "strategy=fedavgm",
        "server-momentum=0.5",
        "network=lte:0.5 3g:0.5",
        "dropout=0.2",
        "keep-clients=true",
    ],
    "downlink, a cache of two models, network": [
        *SMALL,
        "fraction-train=0.5",
        "teacher=none",
        "codec=lowrank(rank=4, directions=2) | deadzone(step=1)",
        "uplink-budget-bytes=2000",
        "downlink=lowrank(rank=4, directions=2) | deadzone(step=0.5)",
        "downlink-cache-bytes=500000",
        "network=lte:0.5 3g:0.5",
        "dropout=0.2",
    ],
    "labels at the server, guesses once a round, FedAvgM": [
        *SMALL[:-2],
        "objective=freematch",
        "labels-at=server",
        "server-labels=60",
        "fine-tune-epochs=2",
        "pseudo-labels=broadcast",
        "weight-by=confident",
        "strategy=fedavgm",
        "server-momentum=0.5",
        "teacher=none",
        "downlink=q4",
    ],
    "FedDyn, local and frozen layers": [*SMALL, "teacher=none", "strategy=feddyn", "local-layers=5.*", "frozen=1.*"],
}
FEEDBACK, LOW_RANK, DOWNLINK, REFINED, DYNAMIC = SETTINGS
TIMES = {"seconds", "wall_seconds", "peak_rss_bytes"}


def command(name, folder, workers):
    settings = [argument for setting in SETTINGS[name] for argument in ("--set", setting)]
    return ["simulate", "configs/demo.toml", *settings, "--out", str(folder), "--workers", str(workers)]


def resume(folder, *arguments):
    return run(["simulate", "--resume", str(folder), *arguments])


@pytest.fixture(scope="module")
def kill():
    """Run a command in a process that kills itself at a moment; see `killed`."""
    program = [sys.executable, "-m", "tests.simulation.killed"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run_and_kill(moment, arguments):
            print(json.dumps([moment, arguments]), file=process.stdin, flush=True)
            assert int(process.stdout.readline()) == -signal.SIGKILL

        yield run_and_kill
        process.stdin.close()


def outcome(folder):
    """Everything that a run wrote, but for times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "rows": [{key: value for key, value in row.items() if key not in TIMES} for row in rows],
        "summary": {key: value for key, value in summary.items() if key not in TIMES},
        "files": {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and "events" not in path.parts and path.suffix not in (".toml", ".jsonl")
            if path.name != "summary.json"
        },
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The outcome of each of the settings' runs, in which nothing happened."""
    folders = {name: tmp_path_factory.mktemp("whole") / "run" for name in SETTINGS}
    for name, folder in folders.items():
        assert run(command(name, folder, workers=2)) == 0
    return {name: outcome(folder) for name, folder in folders.items()}


@pytest.mark.parametrize(
    ("moment", "name", "workers_before", "workers_after"),
    [
        ("before_any_round", FEEDBACK, 1, 0),
        ("after_the_step_of_round_2", LOW_RANK, 2, 2),
        ("after_row_3", LOW_RANK, 0, 1),
        ("within_round_4", FEEDBACK, 2, 1),
        ("while_clients_are_written", FEEDBACK, 0, 2),
        ("before_the_checkpoint_counts", LOW_RANK, 2, 0),
        ("as_soon_as_the_checkpoint_counts", FEEDBACK, 1, 2),
        ("after_the_last_round", LOW_RANK, 2, 1),
        ("within_round_4", DYNAMIC, 0, 1),
        ("within_round_4", DOWNLINK, 1, 0),
        ("while_models_are_written", DOWNLINK, 2, 1),
        ("before_the_checkpoint_counts", DOWNLINK, 0, 2),
        ("within_round_4", REFINED, 2, 0),
        ("after_the_step_of_round_2", REFINED, 0, 1),
    ],
)
def test_a_killed_run_goes_on_to_the_same_end(
    kill, moment, name, workers_before, workers_after, uninterrupted, tmp_path
):
    kill(moment, command(name, tmp_path / "run", workers_before))
    assert resume(tmp_path / "run", "--workers", str(workers_after)) == 0
    assert outcome(tmp_path / "run") == uninterrupted[name]


def test_killed_from_outside_and_again_in_the_resumed_run(kill, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    program = [sys.executable, "-c", "from fedcomp.cli import main; main()"]
    process = subprocess.Popen([*program, *command(FEEDBACK, folder, 2)], stdout=subprocess.PIPE, text=True)
    assert any(line.startswith("round 2") for line in process.stdout)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kill("after_row_3", ["simulate", "--resume", str(folder)])
    assert resume(folder) == 0
    assert outcome(folder) == uninterrupted[FEEDBACK]


@pytest.fixture(scope="module")
def killed(kill, tmp_path_factory):
    """A run that was killed in its fourth round."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    kill("within_round_4", command(FEEDBACK, folder, 0))
    return folder


@pytest.fixture
def copy_of_killed(killed, tmp_path):
    folder = tmp_path / "run"
    for path in killed.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(killed)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("more", [[], ["--baseline"]])
def test_an_interrupt_tells_how_to_go_on(copy_of_killed, monkeypatch, capsys, more):
    from fedcomp.simulation import experiment

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_app", interrupted)
    assert resume(copy_of_killed, *more) == 130
    expected = shlex.join(["fedcomp", "simulate", "--resume", str(copy_of_killed), *more])
    assert capsys.readouterr().err == f"fedcomp: stopped after round 3; go on with `{expected}`\n"
    (copy_of_killed / "checkpoint" / "last.safetensors").unlink()
    assert resume(copy_of_killed) == 130
    assert "go on" not in capsys.readouterr().err


def test_a_folder_of_an_unfinished_run_names_resume(copy_of_killed, capsys):
    assert run(command(FEEDBACK, copy_of_killed, 0)) == 2
    assert "holds a run that is not finished: go on with it with --resume" in capsys.readouterr().err


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: flip_a_byte(folder / "checkpoint" / "last.safetensors"), "last.safetensors is damaged"),
        (lambda folder: os.truncate(folder / "checkpoint" / "last.safetensors", 100), "last.safetensors is no check"),
        (lambda folder: flip_a_byte(min(folder.glob("checkpoint/clients/*/*"))), "is damaged"),
        (lambda folder: min(folder.glob("checkpoint/clients/*/*")).unlink(), "missing from the checkpoint"),
        (lambda folder: (folder / "metrics.jsonl").write_text('{"round": 1}\n'), "expected the row of round 2"),
        (lambda folder: (folder / "metrics.jsonl").write_text("{\n"), "expected the row of round 1"),
    ],
)
def test_a_damaged_checkpoint_is_an_error_and_no_other_run(damage, says, copy_of_killed, capsys):
    damage(copy_of_killed)
    assert resume(copy_of_killed, "--workers", "0") == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (copy_of_killed / "summary.json").exists()


def test_only_one_process_writes_to_a_run(copy_of_killed, capsys):
    from fedcomp.reporting import RunFolder

    with RunFolder(copy_of_killed):
        assert resume(copy_of_killed, "--workers", "0") == 2
    assert "another process" in capsys.readouterr().err


def test_a_run_goes_on_only_as_it_began(copy_of_killed, capsys):
    settings = [*SETTINGS[FEEDBACK], f"out-dir={copy_of_killed}", "resume=true", "local-epochs=2"]
    assert run(["simulate", "configs/demo.toml", *(part for each in settings for part in ("--set", each))]) == 2
    assert "local-epochs is 2, but the run in" in capsys.readouterr().err


def test_files_that_belong_to_no_checkpoint_are_removed(copy_of_killed):
    from fedcomp.flower.state.snapshot import read_snapshot
    from fedcomp.simulation.state_store import StateStore

    folder = copy_of_killed / "checkpoint"
    saved = read_snapshot(folder / "last.safetensors").part("grid").part("clients")
    (folder / "clients" / "0" / "7-99").write_bytes(b"left over")
    restored = dict(StateStore(folder / "clients").restore(saved))
    assert len(restored) == len(list(folder.glob("clients/*/*"))) == len(saved.tensors["partitions"])


def test_a_finished_run_stays_as_it_is(uninterrupted, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(command(FEEDBACK, folder, 0)) == 0
    assert not (folder / "checkpoint").exists()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert resume(folder) == 0
    assert "is finished" in (shown := capsys.readouterr().out)
    assert "accuracy" in shown
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resume", "nowhere"], "nowhere is no run's folder"),
        (["--resume", "docs"], "docs is no run's folder"),
        (["configs/demo.toml", "--resume", "nowhere"], "CONFIG can not be used with --resume"),
        (["--resume", "nowhere", "--set", "seed=1"], "--set can not be used with --resume"),
        (["--resume", "nowhere", "--out", "elsewhere"], "--out can not be used with --resume"),
        (["--resume", "nowhere", "--precision", "auto"], "--precision can not be used with --resume"),
        (["--app", "docs", "--resume", "nowhere"], "--resume can not be used with --app"),
        (["configs/demo.toml", "--set", "resume=true", "--set", "out-dir="], "resume needs out-dir"),
    ],
)
def test_what_can_not_be_resumed_is_a_usage_error(arguments, says, capsys):
    assert run(["simulate", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_tensorboard_passes_over_what_was_done_again(copy_of_killed):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert resume(copy_of_killed, "--workers", "0") == 0
    events = accumulator.EventAccumulator(str(copy_of_killed / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert np.isfinite([event.value for event in events.Scalars("loss")]).all()
