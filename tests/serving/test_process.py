"""The service as a process, and the benchmark's clients."""

import contextlib
import os
import signal
import sys

import pytest

from fedcomp.address import Address
from fedcomp.benchmarks.serving import ServingResult, check_serving, crowd
from fedcomp.benchmarks.serving.crowd import ask_at_once
from fedcomp.benchmarks.serving.models import build_student, fill_store
from fedcomp.deployment.processes import free_ports, is_listening, running, wait_for
from fedcomp.models import build_model
from fedcomp.store import ModelStore
from fedcomp.store.graph import split_model


def test_a_served_student_is_as_large_as_a_real_one():
    found = sum(values.size for values in split_model(build_student(0)).weights.values())
    real = build_model("student-cnn", image_shape=(1, 28, 28), num_classes=10, seed=0)
    norms = sum(p.numel() for name, p in real.named_parameters() if ".weight" in name and p.dim() == 1)
    assert found == sum(p.numel() for p in real.parameters()) - norms  # a folded norm leaves its shift, as a bias


def test_a_service_answers_until_it_is_told_to_stop(tmp_path):
    names, address, log = (
        fill_store(ModelStore(str(tmp_path / "models")), 6),
        Address("127.0.0.1", *free_ports(1)),
        tmp_path / "log",
    )
    command = [sys.executable, "-c", "from fedcomp.cli import main; main()", "serve"]
    options = ["--store", str(tmp_path / "models"), "--listen", str(address), "--memory", "1", "--workers", "1"]
    with log.open("wb") as output, running([*command, *options], environment=os.environ, log=output) as service:
        wait_for(lambda: is_listening(address.port), service, "service", 60, log)
        met = ask_at_once(address, names, clients=4, duration=0.5, seed=0)
        assert met.errors == []
        assert len(met.seconds) >= 4
        assert met.duration >= max(0.5, *met.seconds)
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0
    assert "stopping" in log.read_text()


def test_bars_say_what_is_met():
    alone = ServingResult(1, 100, 0, 50.0, 2.0, 4.0, 0.5, 100.0, 150.0)
    many = ServingResult(200, 100, 1, 50.0, 2.0, 4.0, 0.5, 100.0, 104.0)
    assert [bar.is_met for bar in check_serving([alone, many])] == [True, False, True]


def test_a_client_that_breaks_is_no_silence(monkeypatch):
    class Broken(contextlib.nullcontext):
        def __init__(self, *args, **kwargs):
            super().__init__(self)

        def predict(self, name, image):
            raise RuntimeError("broken")

    monkeypatch.setattr(crowd, "ModelClient", Broken)
    with pytest.raises(RuntimeError, match="broken"):
        ask_at_once(Address("127.0.0.1", 1), ["a"], clients=2, duration=0.1, seed=0)
