"""A run's folder, its display, its tables."""

import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from fedcomp.errors import UsageError
from fedcomp.flower import RoundTraffic
from fedcomp.network import RoundTiming
from fedcomp.reporting import (
    Progress,
    RoundRow,
    RunFolder,
    RunRecorder,
    comparison_table,
    format_bytes,
    format_ratio,
    format_seconds,
    format_share,
    peak_rss_bytes,
    system,
    versions,
)

ROW = RoundRow(
    round=3,
    accuracy=0.5,
    uplink_bytes=1234,
    dense_uplink_bytes=123_400,
    downlink_bytes=5_000_000,
    accepted=7,
    rejected=2,
    failed=1,
    seconds=1.25,
)


def text_of(renderable, terminal=False):
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_345_678, "12.3 MB"), (5e9, "5 GB"), (7e13, "70 TB")],
)
def test_bytes_read_well(count, text):
    assert format_bytes(count) == text


def test_other_numbers_read_well():
    assert (format_ratio(100, 3), format_ratio(100, 0)) == ("33.3x", "-")
    assert (format_share(0.9123), format_share(None)) == ("91.2%", "-")
    assert (format_seconds(8.13), format_seconds(125)) == ("8.1 s", "2:05 min")


def test_piped_progress_is_one_plain_line_a_round():
    console = Console(file=io.StringIO(), width=40)
    with Progress(console, "demo", 5) as progress:
        progress.advance(ROW)
        progress.note("client 3 failed: [red]disk[/red]")
    title, line, note = console.file.getvalue().splitlines()
    assert title == "demo: 5 rounds"
    assert line == (
        "round 3  accuracy 50.0%  up 1.23 kB  down 5 MB  ratio up 100x  took 7  refused 2  lost 1  time 1.2 s"
    )
    assert note == "client 3 failed: [red]disk[/red]"


def test_a_pipe_gets_no_broken_lines_and_no_control_codes():
    console = Console(file=io.StringIO(), width=40)
    with Progress(console, "demo: " + "keep(below=64) | " * 5, 5) as progress:
        progress.advance(ROW)
        progress.note("client 3 failed: " + "a long story " * 10)
    shown = console.file.getvalue()
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_a_note_can_neither_break_its_line_nor_steer_the_terminal(terminal):
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
    with Progress(console, "demo", 5) as progress:
        progress.note("client 3 failed: disk full\nround 9  accuracy 99%\x1b[2J\x9b2J\r" + "x" * 10_000)
    (line,) = [line for line in console.file.getvalue().splitlines() if "disk full" in line]
    assert r"disk full\nround 9  accuracy 99%\x1b[2J\x9b2J\rxxx" in line
    assert len(line) < 600


def test_live_progress_shows_the_rounds_and_what_they_sum_up_to():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Progress(console, "demo [1]", 5) as progress:
        progress.advance(ROW)
        progress.note("a note")
        progress.advance(replace(ROW, round=4, accuracy=None, uplink_bytes=2000, failed=3))
    shown = console.file.getvalue()
    assert "100x" in shown
    assert "2/5" in shown
    assert "a note" in shown
    assert "demo [1]" in shown
    (so_far,) = {line for line in shown.splitlines() if "so far" in line and "10 MB" in line}
    assert re.findall(r"[\d.]+", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", so_far))[:6] == [
        "50.0",
        "3.23",
        "10",
        "76.3",
        "14",
        "4",
    ]


def test_folder_holds_what_was_written(tmp_path):
    with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
        folder.write_config("seed = 1\n")
        folder.write_round({"round": 1, "accuracy": 0.5, "loss": float("nan")})
        folder.write_round({"round": 2, "accuracy": 0.75})
        folder.write_summary({"rounds": 2, "student_accuracy": None})
        folder.save_model({"w": np.arange(3, dtype=np.float32), "n": np.array(4)})
    path = tmp_path / "run"
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"round": 1, "accuracy": 0.5}, {"round": 2, "accuracy": 0.75}]
    assert json.loads((path / "summary.json").read_text()) == {"rounds": 2}
    assert load_file(path / "model.safetensors")["n"] == 4
    assert sorted(p.name for p in path.iterdir()) == [
        "config.toml",
        "events",
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
    ]


def test_what_is_not_finite_does_not_cost_the_summary(tmp_path):
    with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
        folder.write_summary({"rounds": 2, "loss": float("nan"), "accuracy": float("inf")})
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"rounds": 2}


def test_rows_are_there_as_soon_as_they_are_written(tmp_path):
    with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
        folder.write_round({"round": 1, "accuracy": None, "loss": float("-inf")})
        assert json.loads((folder.path / "metrics.jsonl").read_text()) == {"round": 1}


def test_rows_are_on_the_disk_before_a_checkpoint_can_count_on_them(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_ino, os.fstat(file).st_size)))
    with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
        folder.write_round({"round": 1})
    rows = (tmp_path / "run" / "metrics.jsonl").stat()
    assert (rows.st_ino, rows.st_size) in synced


def test_without_tensorboard_there_are_no_events(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
        folder.write_round({"round": 1, "accuracy": 0.5})
    assert not (tmp_path / "run" / "events").exists()


def test_events_can_be_read_by_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
        folder.write_round({"round": 4, "accuracy": 0.5})
    (path,) = (tmp_path / "run" / "events").iterdir()
    events = [event for event in LegacyEventFileLoader(str(path)).Load() if event.HasField("summary")]
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in events] == [(4, "accuracy", 0.5)]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(UsageError, match="not an empty folder"):
        RunFolder.create(str(tmp_path), "demo")
    with pytest.raises(UsageError, match="not an empty folder"):
        RunFolder.create(str(tmp_path / "precious"), "demo")


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = []
    for _ in range(3):
        with RunFolder.create("", "demo") as folder:
            paths.append(folder.path)
    assert len(set(paths)) == 3


def test_recorder_sums_rounds_up(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    with RunFolder.create(str(tmp_path / "run"), "x") as folder, Progress(console, "x", 12) as progress:
        recorder = RunRecorder(folder, progress)
        for number in range(1, 13):
            traffic = RoundTraffic(
                number, 5, 50, 50, 10, 40, 3, Counter(malformed=1), [f"refused {number}"] if number < 9 else []
            )
            traffic.late, traffic.skipped, traffic.clipped = 2, number == 4, 1
            recorder.record(traffic, {"accuracy": number / 100, "loss": 1.0})
        summary = recorder.summary({"codec": "thin"})
    assert summary["rounds"] == 12
    assert summary["uplink_bytes"] == 120
    assert summary["dense_uplink_bytes"] == 480
    assert (summary["updates_accepted"], summary["updates_rejected"]) == (36, 12)
    assert (summary["updates_late"], summary["rounds_skipped"], summary["updates_clipped"]) == (24, 1, 12)
    assert summary["accuracy"] == 0.12
    assert summary["accuracy_last10"] == pytest.approx(np.mean(np.arange(3, 13)) / 100)
    assert summary["codec"] == "thin"
    row, *_, last = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert row["rejected_malformed"] == 1
    assert row["complaints"] == ["refused 1"]
    assert "complaints" not in last
    assert (row["failed"], row["late"], row["skipped"]) == (1, 2, 0)
    shown = console.file.getvalue()
    assert "refused 5" in shown
    assert "refused 6" not in shown
    assert "what else goes wrong is in metrics.jsonl only" in shown


def test_comparison_shows_a_dash_for_what_was_not_measured():
    shown = text_of(comparison_table([("a", {"codec": "thin", "accuracy": 0.9}), ("b", {"codec": "none"})]))
    assert "90.0%" in shown
    assert "thin" in shown
    assert "-" in shown


def test_system_facts():
    assert peak_rss_bytes() > 10_000_000
    assert {"python", "fedcomp", "flwr", "numpy", "torch"} <= versions().keys()


def test_a_row_that_no_run_has_is_not_shown():
    runs = [("a", {"codec": "thin"}), ("b", {"codec": "none"})]
    assert "simulated time" not in text_of(comparison_table(runs))
    runs[0][1]["simulated_seconds"] = 90.0
    assert "1:30 min" in text_of(comparison_table(runs))


def test_simulated_time_is_recorded_where_there_is_a_clock(tmp_path):
    console = Console(file=io.StringIO())
    with RunFolder.create(str(tmp_path / "run"), "x") as folder, Progress(console, "x", 2) as progress:
        recorder = RunRecorder(folder, progress)
        assert recorder.summary({})["simulated_seconds"] is None
        for number in (1, 2):
            timing = RoundTiming(1.5 * number, stragglers=1, dropouts=2, unavailable=3)
            recorder.record(RoundTraffic(number, timing=timing), {})
        summary = recorder.summary({})
    assert (summary["simulated_seconds"], summary["stragglers"], summary["dropouts"]) == (3.0, 2, 4)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    assert [row[key] for key in ("simulated_seconds", "stragglers", "dropouts", "unavailable")] == [3.0, 1, 2, 3]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(8.06, "8.1 s"), (125, "2:05 min"), (7199, "119:59 min"), (34200, "9.5 h"), (1e6, "11.6 days")],
)
def test_durations_are_shown_in_the_unit_that_fits(seconds, shown):
    assert format_seconds(seconds) == shown


@pytest.mark.skipif(sys.platform != "linux", reason="the tree's memory is read from /proc")
def test_the_memory_of_a_run_is_that_of_all_its_processes():
    grandparent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    parent = "x = b'1' * 2**28; print('ready', flush=True); input()"
    command = [sys.executable, "-c", grandparent, parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        below = sum(map(system._shared_memory_bytes, system._process_tree(process.pid)))
        tree = sum(map(system._shared_memory_bytes, system._process_tree(os.getpid())))
        process.stdin.write("\n")
        process.stdin.close()
        process.wait()
    assert tree > below > 2**28
