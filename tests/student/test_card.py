"""The model card where something could not be measured."""

import json
import math

import pytest

from fedcomp.student.card import StudentCard, Variant
from fedcomp.student.runtime import Latency


def test_a_class_without_test_images_is_null_and_a_dash(tmp_path):
    form = Variant(
        file="",
        num_bytes=1000,
        accuracy=0.5,
        validation_accuracy=0.5,
        per_class_accuracy=(math.nan, 0.5),
        latency=Latency(0.1, 0.2),
    )
    StudentCard(
        model="student-cnn",
        num_parameters=10,
        image_shape=(1, 8, 8),
        classes=("cat", "dog"),
        dataset="pets",
        num_images={"proxy": 1, "validation": 1, "test": 2},
        taught_by="global",
        quantization="none",
        layer_bits={},
        prune_ratio=0.0,
        variants={"teacher": form, "float32": form},
        parity={},
        run={},
        command="fedcomp student RUN",
        versions={},
    ).write(tmp_path)
    stored = json.loads((tmp_path / "card.json").read_text(), parse_constant=pytest.fail)
    assert stored["variants"]["float32"]["per_class_accuracy"] == [None, 0.5]
    shown = (tmp_path / "README.md").read_text()
    assert "| cat | - | - | - |" in shown
    assert "| dog | 50.0% | 50.0% | +0.0 |" in shown
