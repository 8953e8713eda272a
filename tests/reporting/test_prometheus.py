"""A run's figures over HTTP: right while it runs, when it is resumed, and whoever asks."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fedcomp.errors import UsageError
from fedcomp.reporting import MetricsExporter, RunFolder
from fedcomp.reporting.tail import RowTail


def row(number, **changes):
    counts = {"uplink_bytes": 10, "dense_uplink_bytes": 400, "downlink_bytes": 30, "dense_downlink_bytes": 500}
    return {"round": number, "accepted": 4, "rejected": 0, "failed": 1, "seconds": 1.5} | counts | changes


def append(folder, *rows):
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in rows)


def cut_back(folder, number):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:number]))


def get(exporter, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}{path}", timeout=20) as response:
        return response.read().decode()


def figures(exporter):
    """Return the run's figures without their prefix."""
    found = re.findall(r"^fedcomp_(\S+) (\S+)$", get(exporter), re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_rows_are_summed_up_as_they_come(tmp_path):
    with MetricsExporter(tmp_path / "run", "0") as exporter:
        before = figures(exporter)
        assert (before["rounds_total"], before["run_finished"]) == (0, 0)
        assert not {"round", "accuracy_ratio", "rounds_requested", "last_round_timestamp_seconds"} & before.keys()
        with RunFolder.create(str(tmp_path / "run"), "demo") as folder:
            folder.write_config("num-server-rounds = 50\n")
            folder.write_round(row(1, accuracy=0.25, loss=2.0, rejected=3, rejected_stale=2, rejected_malformed=1))
            first = figures(exporter)
            folder.write_round(row(2, rejected=1, rejected_stale=1, late=2, seconds=4.0))
            second = figures(exporter)
            folder.write_summary({"rounds": 2})
            assert figures(exporter)["run_finished"] == 1
    assert (first["rounds_total"], first["rounds_requested"], first["uplink_bytes_total"]) == (1, 50, 10)
    written = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime
    assert second == {
        "rounds_total": 2,
        "rounds_requested": 50,
        "round": 2,
        "accuracy_ratio": 0.25,
        "loss": 2.0,
        "uplink_bytes_total": 20,
        "uplink_dense_bytes_total": 800,
        "downlink_bytes_total": 60,
        "downlink_dense_bytes_total": 1000,
        "updates_accepted_total": 8,
        "updates_lost_total": 2,
        "updates_late_total": 2,
        'updates_refused_total{reason="stale"}': 3,
        'updates_refused_total{reason="malformed"}': 1,
        "last_round_duration_seconds": 4.0,
        "last_round_timestamp_seconds": pytest.approx(written),
        "run_finished": 0,
    }


def test_the_docs_name_every_figure_and_no_other(tmp_path):
    (tmp_path / "config.toml").write_text("num-server-rounds = 50\n")
    append(tmp_path, row(1, accuracy=0.5, loss=1.0, rejected_stale=1))
    with MetricsExporter(tmp_path, "0") as exporter:
        shown = {f"fedcomp_{name.partition('{')[0]}" for name in figures(exporter)}
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert set(re.findall(r"fedcomp_[a-z_]+", text)) == shown


def test_a_resumed_run_is_told_right(tmp_path):
    """Also where the rows that were done again end where those before them ended."""
    append(tmp_path, row(1), row(2, uplink_bytes=55), row(3, uplink_bytes=77))
    with MetricsExporter(tmp_path, "0") as exporter:
        assert figures(exporter)["uplink_bytes_total"] == 142
        cut_back(tmp_path, 1)
        assert figures(exporter)["uplink_bytes_total"] == 10
        append(tmp_path, row(2, uplink_bytes=66))
        assert figures(exporter)["uplink_bytes_total"] == 76
        cut_back(tmp_path, 1)
        append(tmp_path, row(2, uplink_bytes=88))
        assert figures(exporter)["uplink_bytes_total"] == 98
        (tmp_path / "metrics.jsonl").unlink()
        assert figures(exporter)["rounds_total"] == 0


def test_a_line_that_is_being_written_counts_when_it_is_whole(tmp_path):
    append(tmp_path, row(1))
    tail = RowTail(tmp_path / "metrics.jsonl")
    line = json.dumps(row(2))
    with (tmp_path / "metrics.jsonl").open("a", buffering=1) as file:
        file.write(line[:20])
        file.flush()
        assert tail.read() == (False, [row(1)])
        assert tail.read() == (False, [])
        file.write(line[20:] + "\n")
        assert tail.read() == (False, [row(2)])
    assert tail.read() == (False, [])


def test_a_damaged_line_costs_itself_only(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_text(f'{json.dumps(row(1))}\n{{"round": 2, \n[]\n{json.dumps(row(3))}\n')
    assert RowTail(tmp_path / "metrics.jsonl").read() == (False, [row(1), row(3)])
    assert len(caplog.records) == 2


def test_health_is_what_the_caller_says(tmp_path):
    append(tmp_path, row(1))
    health = [True]
    with MetricsExporter(tmp_path, "0", is_healthy=lambda: health[0]) as exporter:
        well = json.loads(get(exporter, "/healthz"))
        health[0] = False
        with pytest.raises(urllib.error.HTTPError, match="503") as error:
            get(exporter, "/healthz")
        assert json.loads(error.value.read())["status"] == "unhealthy"
        error.value.close()
    assert (well["status"], well["rounds"], well["finished"]) == ("ok", 1, False)
    assert well["seconds_since_last_round"] >= 0


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /other", 404), ("POST /metrics", 405), ("GET /" + "x" * 100_000, 414), ("nonsense", 400)],
)
def test_other_requests_are_refused(tmp_path, request_line, status):
    with MetricsExporter(tmp_path, "0") as exporter, socket.create_connection(("127.0.0.1", exporter.port), 20) as it:
        it.sendall(f"{request_line}{' HTTP/1.0' if ' ' in request_line else ''}\r\n\r\n".encode())
        assert str(status) in it.recv(1000).decode().split("\r\n")[0]


def test_whoever_is_slow_is_cut_off_and_whoever_is_one_too_many_is_not_answered(tmp_path, monkeypatch):
    monkeypatch.setattr("fedcomp.reporting.prometheus._SECONDS_A_CONNECTION", 2.0)
    with MetricsExporter(tmp_path, "0") as exporter:
        slow = [socket.create_connection(("127.0.0.1", exporter.port), 20) for _ in range(8)]
        for each in slow:
            each.sendall(b"GET /metrics")
        with pytest.raises((OSError, urllib.error.URLError, http.client.HTTPException)):
            get(exporter)
        for each in slow:
            assert b"200" not in each.recv(1000)  # waits for the end, not for an answer
            each.close()
        assert figures(exporter)["rounds_total"] == 0


def test_a_port_that_is_taken_is_one_clear_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"metrics can not be served at 127.0.0.1, port {port}: .*in use"),
            MetricsExporter(tmp_path, str(port)),
        ):
            pass


def test_it_does_not_keep_a_process_alive(tmp_path):
    code = (
        "import sys, pathlib; from fedcomp.reporting import MetricsExporter; "
        "exporter = MetricsExporter(pathlib.Path(sys.argv[1]), '0').__enter__(); print(exporter.port)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 0


def test_without_the_library_there_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"pip install 'fedcomp\[operations\]'"):
        MetricsExporter(tmp_path, "0")
