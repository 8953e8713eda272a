"""A run and a student of it, whose weights are seeded and not trained: nothing here depends on how good it is."""

import pytest

from fedcomp.files import write_json
from fedcomp.student import CARD_FILE, FinishedRun, save_student
from tests.finished_run import make_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def finished(run_folder):
    return FinishedRun.read(run_folder)


@pytest.fixture(scope="session")
def student_folder(run_folder, finished):
    name = "student-cnn(width=0.25)"
    save_student(run_folder / "student", finished.build(name))
    write_json(run_folder / "student" / CARD_FILE, {"model": name})
    return run_folder / "student"
