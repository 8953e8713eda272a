"""A student on disk."""

import numpy as np
import pytest
import torch

from fedcomp.errors import DataError
from fedcomp.models import build_model, get_weights
from fedcomp.student import load_student, save_student


def student(seed=0, name="student-cnn"):
    return build_model(name, image_shape=(1, 8, 8), num_classes=10, seed=seed)


def test_a_student_comes_back_in_half_precision(tmp_path):
    num_bytes = save_student(tmp_path / "student", student())
    assert num_bytes == (tmp_path / "student" / "student.safetensors").stat().st_size < 40_000
    loaded = student(1)
    load_student(tmp_path / "student", loaded)
    for key, values in get_weights(student()).items():
        np.testing.assert_allclose(get_weights(loaded)[key], values, atol=1e-3)


def test_weights_beyond_half_precision_stay_finite(tmp_path):
    model = student()
    with torch.no_grad():
        model[1].running_var.fill_(1e6)
    save_student(tmp_path, model)
    loaded = student(1)
    load_student(tmp_path, loaded)
    assert (loaded[1].running_var == 1e6).all()


def test_damaged_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"student\.safetensors"):
        load_student(tmp_path, student())
    save_student(tmp_path, student(name="perceptron"))
    with pytest.raises(DataError, match="do not fit"):
        load_student(tmp_path, student())
    content = (tmp_path / "student.safetensors").read_bytes()
    for end in (0, 5, 100, len(content) - 1):
        (tmp_path / "student.safetensors").write_bytes(content[:end])
        with pytest.raises(DataError):
            load_student(tmp_path, student(name="perceptron"))
