"""A run read back, and drawn."""

import json
import sys
from xml.etree import ElementTree

import pytest

from fedcomp.cli import run
from fedcomp.errors import DataError, UsageError
from fedcomp.reporting import RunHistory, draw_curves


def write_run(folder, accuracies, up=10, seconds=2.0):
    folder.mkdir()
    rows = [
        {"round": number, "uplink_bytes": up, "downlink_bytes": 100}
        | ({} if accuracy is None else {"accuracy": accuracy})
        | ({} if seconds is None else {"simulated_seconds": seconds * number})
        for number, accuracy in enumerate(accuracies, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_what_an_accuracy_cost(tmp_path):
    history = RunHistory.read(write_run(tmp_path / "run", [0.2, None, 0.7, 0.5, 0.8]))
    assert history.seconds() == [2, 4, 6, 8, 10]
    assert history.uplink_bytes() == [10, 20, 30, 40, 50]
    assert history.num_bytes() == [110, 220, 330, 440, 550]
    for target, seconds in ((0.1, 2), (0.2, 2), (0.6, 6), (0.75, 10), (0.9, None)):
        assert history.cost_to_accuracy(target, history.seconds()) == seconds


def test_a_run_without_a_clock_has_no_time(tmp_path):
    history = RunHistory.read(write_run(tmp_path / "run", [0.5], seconds=None))
    assert history.seconds() is None
    assert history.cost_to_accuracy(0.1, history.seconds()) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rounds yet"),
        ('{"round": 1', "line 1: Expecting"),
        ('{"round": 1, "uplink_bytes": 1, "downlink_bytes": 1}\n[]\n', "line 2 is no round"),
        ('{"round": 1}', "line 1 is no round: expected an object with round and bytes up and down"),
    ],
)
def test_a_damaged_run_says_where(tmp_path, text, says):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(DataError, match=says):
        RunHistory.read(tmp_path)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="no run's folder: it has no metrics"):
        RunHistory.read(tmp_path)


def test_the_picture_is_svg_and_repeats_byte_for_byte(tmp_path):
    runs = [RunHistory.read(write_run(tmp_path / name, [0.2, 0.5, 0.9], up)) for name, up in (("a", 1), ("b", 50))]
    for name in ("first.svg", "second.svg"):
        draw_curves(runs, tmp_path / name, targets=[0.8])
    first = (tmp_path / "first.svg").read_bytes()
    assert first == (tmp_path / "second.svg").read_bytes()
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert b"simulated seconds" in first


def test_the_time_panel_is_there_only_for_runs_with_a_clock(tmp_path):
    runs = [RunHistory.read(write_run(tmp_path / "a", [0.2, 0.5], seconds=None))]
    draw_curves(runs, tmp_path / "picture.svg")
    assert b"simulated seconds" not in (tmp_path / "picture.svg").read_bytes()


def test_without_matplotlib_there_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'fedcomp\[report\]'"):
        draw_curves([], tmp_path / "picture.svg")


def test_the_command_draws_and_tells(tmp_path, capsys):
    runs = [write_run(tmp_path / "a", [0.2, 0.9]), write_run(tmp_path / "b", [0.2, 0.3], seconds=None)]
    picture = tmp_path / "picture.svg"
    assert run(["plot", *map(str, runs), "--out", str(picture), "--target", "0.85"]) == 0
    shown = capsys.readouterr().out
    assert "4.0 s" in shown
    assert "85.0%" in shown
    assert picture.exists()
    assert run(["plot", str(tmp_path), "--out", str(picture)]) == 2
    assert f"{tmp_path} is no run's folder: it has no metrics.jsonl" in capsys.readouterr().err
