"""The server's process around a run: whose run it is, and what it shows of it."""

import functools
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedcomp.address import Address
from fedcomp.config import RunConfig
from fedcomp.deployment.superlink import COMPLETED, RunStatus
from fedcomp.errors import ConfigError, RunError, UsageError
from fedcomp.reporting import Progress
from server import process
from server.process import ServerSettings, serve


def settings(state, *, resume):
    return ServerSettings(listen=Address("127.0.0.1", 0), certificates=None, keys=None, state=state, resume=resume)


def progress_to(file):
    return Progress(Console(file=file, width=120), "demo", 5)


def write_rows(folder, numbers, seconds=1.0):
    counts = dict.fromkeys(
        ("uplink_bytes", "dense_uplink_bytes", "downlink_bytes", "accepted", "rejected", "failed"), 1
    )
    rows = [json.dumps({"round": number, "seconds": seconds, **counts}) + "\n" for number in numbers]
    (folder / "metrics.jsonl").write_text("".join(rows))


def test_a_finished_run_is_no_answer_to_a_new_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(UsageError, match="a run that is finished: choose another --state"):
        serve(RunConfig(), settings(tmp_path, resume=False), progress_to(io.StringIO()))
    assert serve(RunConfig(), settings(tmp_path, resume=True), progress_to(io.StringIO())) == {}


def test_a_state_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"can't write the state .*/file/state: Not a directory"):
        serve(RunConfig(), settings(tmp_path / "file" / "state", resume=False), progress_to(io.StringIO()))


def test_another_configuration_is_refused_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_serve", lambda *_: pytest.fail("it was started"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(RunConfig.from_mapping({"deployed": True}).to_toml())
    with pytest.raises(ConfigError, match=r"seed is 1, but the run in .* began with 0"):
        serve(RunConfig(seed=1), settings(tmp_path, resume=True), progress_to(io.StringIO()))


def test_rounds_that_are_done_again_are_counted_once(tmp_path, monkeypatch):
    steps = iter([lambda: write_rows(tmp_path, [1, 2]), lambda: write_rows(tmp_path, [1, 2, 3]), lambda: None])
    write_rows(tmp_path, [1, 2, 3], seconds=2.0)  # round 3 is ahead of the checkpoint

    def poll():
        if (step := next(steps, None)) is None:
            return 1
        return step()

    superlink = SimpleNamespace(process=SimpleNamespace(poll=poll, returncode=1), log="superlink.log")
    monkeypatch.setattr(process, "_SECONDS_BETWEEN_LOOKS", 0.0)
    shown = io.StringIO()
    with pytest.raises(RunError):
        process._watch("1", superlink, SimpleNamespace(run_folder=tmp_path), progress_to(shown), None)
    words = [line.split("  ")[0] for line in shown.getvalue().splitlines()]
    assert words == ["goes on after round 3", "goes on after round 2", "round 3"]


@pytest.mark.parametrize("patience", [0.0, 600.0])
def test_a_question_without_an_answer_ends_no_run_at_once(tmp_path, monkeypatch, patience):
    """What Flower counted comes from the same answer: nothing that is asked after the end can fail a finished run."""
    answers = iter([[], [RunStatus("2", COMPLETED, 20, 7), RunStatus("1", "finished:stopped", 3, 1)]])

    def runs():
        if answer := next(answers):
            return answer
        raise RunError("flwr list did not answer within 120 s")

    superlink = SimpleNamespace(process=SimpleNamespace(poll=lambda: None), runs=runs)
    monkeypatch.setattr(process, "_SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(process, "_SECONDS_WITHOUT_AN_ANSWER", patience)
    (tmp_path / "summary.json").write_text("{}")
    shown = io.StringIO()
    watched = functools.partial(
        process._watch, "2", superlink, SimpleNamespace(run_folder=tmp_path), progress_to(shown), None
    )
    if not patience:
        with pytest.raises(RunError, match="did not answer"):
            watched()
        return
    watched()
    assert "did not answer" in shown.getvalue()
    assert json.loads((tmp_path / "summary.json").read_text()) == {"wire_uplink_bytes": 23, "wire_downlink_bytes": 8}
