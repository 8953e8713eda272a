"""The server benchmark: its rounds are real ones, and what it says is what happened. Never how fast."""

import json
import sys
import time
from dataclasses import replace

import pytest

from fedcomp.benchmarks.server import benchmark_client_rounds, benchmark_folds, check_server, soak
from fedcomp.benchmarks.server.client_round import ClientProcess
from fedcomp.benchmarks.server.federation import Federation
from fedcomp.benchmarks.server.fold import Folding, FoldResult, FoldWork
from fedcomp.benchmarks.server.workload import SHAPES, RoundsServer, make_model
from fedcomp.cli import run
from fedcomp.errors import RunError
from fedcomp.models import build_model, get_weights

SMALL = {"weight": (40, 50), "bias": (40,)}
FOLDED = FoldResult("thin", False, 10, bytes_an_update=1e4, updates_a_second=250.0, grown_megabytes=40.0)


def test_the_model_is_the_one_that_it_says():
    model = get_weights(build_model("cnn", image_shape=(1, 28, 28), num_classes=10, seed=0))
    assert {name: values.shape for name, values in model.items()} == SHAPES
    assert {name: values.dtype for name, values in make_model().items()} == {n: v.dtype for n, v in model.items()}


def test_a_clients_rounds_are_real():
    plain, thin = benchmark_client_rounds(("none", "thin"), rounds=2, model=make_model(SMALL))
    assert plain.bytes_up == plain.bytes_down == 4 * (40 * 50 + 40) + 2 * 128
    assert 0 < thin.bytes_up < plain.bytes_up / 4
    assert 0 < thin.bytes_down < plain.bytes_down / 4
    for result in (plain, thin):
        assert result.decode_milliseconds > 0
        assert result.encode_milliseconds > 0
        assert result.idle_megabytes is None or 20 < result.idle_megabytes <= result.peak_megabytes < 500


def test_a_client_that_fails_is_quoted():
    with (
        pytest.raises(RunError, match="no such device"),
        ClientProcess([sys.executable, "-c", "exit('no such device')"]),
    ):
        pass
    server = RoundsServer(make_model(SMALL), codec="thin")
    (message,) = server.order(1)
    del message.content["config"]
    with ClientProcess() as client, pytest.raises(RunError, match="not enough values to unpack"):
        client.ask(message)


@pytest.mark.parametrize("references", [False, True])
def test_all_updates_of_a_round_are_folded(references):
    folding = Folding(FoldWork("thin", references, updates=20, distinct=3), SMALL)
    seconds, num_bytes = folding.time_round()
    _, again = folding.time_round()
    assert seconds > 0
    assert num_bytes == again > 20 * 60
    assert folding.weigh_round() is None or folding.weigh_round() >= 0


def test_updates_that_are_refused_are_an_error():
    server = RoundsServer(make_model(SMALL), codec="thin")
    with ClientProcess() as client:
        reply, _ = client.ask(server.order(1)[0])
    server.order(2)
    with pytest.raises(RunError, match=r"0 of 1 updates were taken: refused the update .* stale"):
        server.fold(2, [reply])


def test_folds_are_measured_in_processes_of_their_own():
    with_none, with_references = benchmark_folds(sizes=(2,))
    assert (with_none.references, with_references.references) == (False, True)
    assert (with_none.updates, with_references.updates) == (2, 2)
    for result in (with_none, with_references):
        assert result.updates_a_second > 0
        assert 1000 < result.bytes_an_update < 100_000
        # At least the running sums in float64 and the new model.
        assert result.grown_megabytes is None or 12 < result.grown_megabytes < 400
    with pytest.raises(RunError, match=r"folding FoldWork\(codec='nonsense'(.|\n)*CodecSpecError"):
        benchmark_folds(["nonsense"], sizes=(1,))


def test_bars_say_what_is_met():
    more = replace(FOLDED, updates=1000, updates_a_second=150.0, grown_megabytes=43.0)
    with_references = replace(FOLDED, references=True)
    fast, flat, other = check_server([more, FOLDED, with_references, replace(more, codec="q8")])
    assert (fast.measured, fast.promise, fast.is_met) == ("150", ">= 200", False)
    assert (flat.what, flat.measured, flat.is_met) == ("thin, memory of 1000 updates over that of 10", "1.075", True)
    assert (other.what.split(",")[0], other.is_met) == ("thin with references", True)
    assert not check_server([FOLDED, replace(more, grown_megabytes=45.0)])[1].is_met
    assert check_server([replace(FOLDED, codec="q8")]) == []


def test_a_client_that_died_does_not_count_as_flat(monkeypatch):
    class Dying(Federation):
        def start_server(self, *options):
            return self.start("server", "-c", "input()")

        def start_client(self, number, *options):
            return self.start(f"client-{number}", "-c", f"exit({number} and 'no such device')")

        def wait_for_rounds(self, number, seconds=180):
            time.sleep(0.5)

    monkeypatch.setitem(soak.__globals__, "Federation", Dying)
    with pytest.raises(RunError, match=r"client \d ended with exit code"):
        soak(40, print)


def test_command_writes_json(tmp_path, capsys):
    path = tmp_path / "new" / "server.json"
    command = ["bench", "server", "--only", "client", "--codec", "q8", "--rounds", "1", "--json", str(path)]
    assert run(command) == 0
    written = json.loads(path.read_text())
    assert [row["codec"] for row in written["client"]] == ["q8"]
    assert written["client"][0]["bytes_up"] < 6_653_480 / 4
    assert written["fold"] == written["bars"] == []
    assert "q8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--only", "soak", "--rounds", "2000"], "--rounds measures nothing of soak"),
        (["--only", "fold", "--kills", "3", "--codec", "q8"], "--codec, --kills measures nothing of fold"),
        (["--soak-rounds", "40"], "--soak-rounds measures nothing of client and fold"),
    ],
)
def test_an_option_of_another_part_is_refused(options, says, capsys):
    assert run(["bench", "server", *options]) == 2
    assert says in capsys.readouterr().err
