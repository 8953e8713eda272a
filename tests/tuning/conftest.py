"""A run whose students are searched, and a search of three of them."""

import pytest

from fedcomp.student import FinishedRun
from tests.finished_run import make_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny", **{"student-model": "student-cnn"})


@pytest.fixture(scope="session")
def finished(run_folder):
    return FinishedRun.read(run_folder, {"teacher": "global"})
