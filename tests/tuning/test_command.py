"""``fedcomp tune``: what it writes, and how it refuses."""

import pytest

from fedcomp.cli import run
from fedcomp.config import RunConfig


def test_a_student_is_searched(run_folder, tmp_path, capsys):
    out = tmp_path / "chosen.toml"
    arguments = ["--trials", "1", "--epochs", "1", "--width", "0.2", "0.25", "--out", str(out)]
    assert run(["tune", str(run_folder), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 students are on the Pareto front" in shown
    assert f"fedcomp student {run_folder} --set 'student-model=student-cnn(width=" in shown
    assert (run_folder / "tune.svg").stat().st_size
    config, begun = RunConfig.from_toml(out), RunConfig.from_toml(run_folder / "config.toml")
    assert config.student_model.startswith("student-cnn(width=0.2")
    assert config.distill_epochs == begun.distill_epochs
    assert config.model == begun.model


def test_a_codec_is_searched(run_folder, capsys):
    assert run(["tune", str(run_folder), "--codec-budget", "4000"]) == 0
    shown = capsys.readouterr().out
    assert "within 4,000 bytes" in shown
    assert "uplink-budget-bytes = 4000" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec-budget", "4000", "--trials", "2"], "--trials can not be used with --codec-budget"),
        (["--codec-budget", "10"], "too small a budget"),
        (["--width", "2", "1"], "can not be searched"),
        (["--storage", "nonsense://x"], "can not be opened"),
    ],
)
def test_what_is_wrong_is_named(run_folder, arguments, message, capsys):
    assert run(["tune", str(run_folder), *arguments]) == 2
    assert message in capsys.readouterr().err
