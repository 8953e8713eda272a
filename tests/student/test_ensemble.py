"""A finished run's clients teach as they did in the run, whatever the codec was."""

import numpy as np
import pytest

from fedcomp.config import RunConfig
from fedcomp.distillation import KeptClients
from fedcomp.errors import DataError, UsageError
from fedcomp.simulation.experiment import simulate
from fedcomp.student import CLIENTS_FOLDER, FinishedRun, StudentSettings, save_student, train_student
from tests.finished_run import make_run

SMALL = {
    "name": "tiny",
    "model": "perceptron",
    "num-clients": 4,
    "num-server-rounds": 2,
    "objective": "supervised",
    "label-fraction": 1.0,
    "teacher": "ensemble",
    "keep-clients": True,
    "student-model": "student-cnn(width=0.25)",
    "distill-epochs": 2,
}
IN_CONTEXT = {
    "codec": "lowrank(rank=4, directions=2) | deadzone(step=1)",
    "downlink": "lowrank(rank=4, directions=2) | deadzone(step=0.5)",
}


@pytest.fixture(scope="module", params=[IN_CONTEXT, {"codec": "none", "frozen": "1.*"}], ids=str)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble") / "run"
    config = RunConfig.from_mapping({**SMALL, **request.param, "out-dir": str(folder)})
    simulate(config, num_workers=0)
    return folder


def test_the_same_student_to_the_last_bit(finished, tmp_path):
    run = FinishedRun.read(finished)
    student, lesson = run.build(run.config.student_model), run.lesson()
    assert lesson.taught_by == "ensemble"
    train_student(student, lesson, StudentSettings.of(run.config))
    save_student(tmp_path, student)
    files = [folder / "student.safetensors" for folder in (finished / "student", tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_all_clients_are_heard(finished):
    run = FinishedRun.read(finished)
    ensemble = run.ensemble(run.held_out.proxy)
    assert ensemble.num_teachers + ensemble.num_dropped == 4


def test_clients_of_another_model_are_refused(finished):
    run = FinishedRun.read(finished)
    kept = KeptClients(finished / CLIENTS_FOLDER)
    kept.add(1, {"0.weight": np.zeros((3, 3), np.float32)})
    kept.seal()
    with pytest.raises(DataError, match="weights do not fit the model in"):
        run.lesson()


def test_a_run_that_kept_nobody_says_so(tmp_path):
    folder = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match="an ensemble needs a run with keep-clients = true"):
        FinishedRun.read(folder, {"teacher": "ensemble"}).lesson()
