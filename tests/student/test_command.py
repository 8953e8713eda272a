"""``fedcomp student``: what it says, and how it refuses."""

import shutil
import sys

import pytest

from fedcomp.cli import run
from fedcomp.config import RunConfig
from fedcomp.errors import UsageError
from fedcomp.student.extra import student_extra
from fedcomp.student.from_run import STUDENT_KEYS

QUICK = ["--quantize", "none", "--student", "student-cnn(width=0.25)", "--set", "distill-epochs=2"]


def test_a_student_of_a_run(run_folder, tmp_path, capsys):
    out = tmp_path / "phone"
    assert run(["student", str(run_folder), *QUICK, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "distill student-cnn(width=0.25) on 300 images" in shown
    assert "float32" in shown
    assert str(out / "README.md") in shown
    assert {path.name for path in out.iterdir()} == {"student.safetensors", "student.onnx", "card.json", "README.md"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", "resnet"], "expected one of"),
        (["--student", "cnn(width=2)"], "cnn takes no width"),
        (["--student", "student-cnn(width=99)"], "width is 99, expected 0.05 to 16"),
        (["--quantize", "int3"], "student-quantize"),
        (
            ["--set", "student-bits=nine.weight=4"],
            "student-bits has the pattern 'nine.weight', which fits none of 0.weight",
        ),
        (
            ["--set", "num-clients=3"],
            "num-clients: changes nothing about the student of a finished run; what",
        ),
        (["--set", "distil-epochs=2"], "did you mean distill-epochs"),
    ],
)
def test_what_is_wrong_is_named(run_folder, arguments, message, capsys):
    assert run(["student", str(run_folder), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (run_folder / "student").exists()


def test_a_folder_that_can_not_be_made_is_named_before_the_work(run_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(["student", str(run_folder), *QUICK, "--out", str(tmp_path / "file" / "phone")]) == 2
    shown = capsys.readouterr()
    assert "can't write the student's folder" in shown.err
    assert "distill" not in shown.out


def test_a_folder_without_a_finished_run_is_refused(run_folder, tmp_path, capsys):
    assert run(["student", str(tmp_path)]) == 2
    assert "is not the folder of a finished run" in capsys.readouterr().err
    half = tmp_path / "half"
    shutil.copytree(run_folder, half)
    (half / "summary.json").write_text("[1")
    assert run(["student", str(half)]) == 1
    assert "summary.json" in capsys.readouterr().err
    (half / "summary.json").write_text("{}")
    (half / "model.safetensors").write_bytes(b"none")
    assert run(["student", str(half)]) == 1
    assert "model.safetensors" in capsys.readouterr().err


def test_a_missing_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(UsageError, match=r"torch_pruning: pip install 'fedcomp\[student\]'"), student_extra():
        import torch_pruning  # noqa: F401


def test_what_counts_are_keys():
    assert set(STUDENT_KEYS) <= set(RunConfig.keys())
