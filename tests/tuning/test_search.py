"""Searching students: each is a real one, a search goes on where it was, and another one is refused."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from fedcomp.errors import UsageError
from fedcomp.explaining import LayerDamage
from fedcomp.tuning import SearchSpace, TuneSettings, Workbench, measure, tune_student
from fedcomp.tuning.measure import Measured


@pytest.fixture
def quick(monkeypatch):
    """Figures by hand in the place of exporters, which take seconds; returns the changes that were asked for."""
    asked = []

    def measure(self, changes, *, with_latency):
        asked.append(changes)
        return Measured(0.5 + 0.01 * len(asked), 1000 + len(asked), 0.1 if with_latency else None)

    monkeypatch.setattr(Workbench, "measure", measure)
    monkeypatch.setattr(Workbench, "sensitivity", lambda self, changes, bits: table(bits))
    return asked


def table(bits):
    """The last layer stands everything, the one before it four bits, the first one next to nothing."""
    drops = {("3.weight", 4): 0.04, ("3.weight", 2): 0.5, ("7.weight", 2): 0.3}
    return [
        LayerDamage(
            layer=layer,
            change="",
            bits=width,
            num_weights=1000,
            num_bytes=125 * width,
            accuracy_drop=drops.get((layer, width), 0.0),
            flip_rate=0.01 / width,
            sqnr_db=10.0,
        )
        for layer in ("0.weight", "3.weight", "7.weight", "12.weight")
        for width in bits
    ]


def url(folder):
    return f"sqlite:///{folder / 'tune.db'}"


def test_a_student_is_made_and_measured_and_fewer_bits_are_no_other_training(finished, monkeypatch):
    trained, train = [], measure.train_student
    monkeypatch.setattr(measure, "train_student", lambda *args: trained.append(train(*args)))
    bench, changes = Workbench(finished, finished.lesson()), {"student-model": "student-cnn(width=0.5)"}
    changes["distill-epochs"] = 1
    rows = bench.sensitivity(changes, (8, 4))
    assert [(row.layer, row.bits) for row in rows[:3]] == [("0.weight", 8), ("0.weight", 4), ("3.weight", 8)]
    eight = bench.measure(changes, with_latency=True)
    assert 0 <= eight.accuracy <= 1
    assert eight.p50_ms > 0
    four = bench.measure(changes | {"student-bits": "*=4"})
    assert four.num_bytes < 0.9 * eight.num_bytes
    assert len(trained) == 1
    bench.sensitivity(changes | {"temperature": 2.0}, (4,))
    assert len(trained) == 2


def test_the_sensitivity_table_says_where_to_begin(finished, quick, tmp_path):
    settings = TuneSettings(trials=6, epochs=2, space=SearchSpace(0.5, 1.5))
    bits = [one.changes["student-bits"] for one in tune_student(finished, settings, url(tmp_path))]
    first_two, last = ["7.weight=4", "7.weight=4, 12.weight=4"], "3.weight=4, 7.weight=4, 12.weight=2"
    assert bits == ["", *first_two, "7.weight=4, 12.weight=2", last, ""]
    assert [changes["student-model"] for changes in quick] == [
        *["student-cnn(width=1.0)"] * 5,
        "student-cnn(width=0.5)",
    ]


def test_the_table_is_read_once(finished, quick, tmp_path, monkeypatch):
    tune_student(finished, TuneSettings(trials=1), url(tmp_path))
    monkeypatch.setattr(Workbench, "sensitivity", lambda *args: 1 / 0)
    found = tune_student(finished, TuneSettings(trials=3), url(tmp_path))
    assert found[1].changes["student-bits"]


def test_starting_points_come_first_and_a_search_goes_on(finished, quick, tmp_path):
    settings = TuneSettings(trials=3, epochs=2, space=SearchSpace(0.5, 1.5, bits=(8,)))
    first = tune_student(finished, settings, url(tmp_path))
    assert [one.changes["student-model"] for one in first] == [
        f"student-cnn(width={width})" for width in ("1.0", "0.5", "1.5")
    ]
    assert all(changes["distill-epochs"] == 2 for changes in quick)
    assert "distill-epochs" not in first[0].changes
    more = TuneSettings(trials=6, epochs=2, space=SearchSpace(0.5, 1.5, bits=(8,)))
    second = tune_student(finished, more, url(tmp_path))
    assert second[:3] == first
    assert len(second) == len(quick) == 6
    assert len({tuple(one.changes.items()) for one in second}) == 6
    assert tune_student(finished, settings, url(tmp_path)) == second
    assert len(quick) == 6


def test_a_search_repeats(finished, quick, tmp_path):
    settings = TuneSettings(trials=5)
    (tmp_path / "other").mkdir()
    first = tune_student(finished, settings, url(tmp_path))
    quick.clear()
    assert tune_student(finished, settings, url(tmp_path / "other")) == first


def test_a_study_of_another_run_is_refused(finished, quick, tmp_path):
    tune_student(finished, TuneSettings(trials=1), url(tmp_path))
    other = copy.deepcopy(finished.model)
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    with pytest.raises(UsageError, match="teacher was"):
        tune_student(replace(finished, model=other), TuneSettings(trials=2), url(tmp_path))
    assert len(quick) == 1


def test_another_search_is_refused(finished, quick, tmp_path):
    tune_student(finished, TuneSettings(trials=1, epochs=2), url(tmp_path))
    for other in (
        TuneSettings(trials=1, epochs=3),
        TuneSettings(trials=1, epochs=2, with_latency=True),
        TuneSettings(trials=1, epochs=2, space=SearchSpace(0.5, 1)),
        TuneSettings(trials=1, epochs=2, space=SearchSpace(bits=(8, 4))),
    ):
        with pytest.raises(UsageError, match="holds another search"):
            tune_student(finished, other, url(tmp_path))
    assert len(quick) == 1


def test_what_fails_is_not_a_student(finished, quick, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "measure", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tune_student(finished, TuneSettings(trials=2), url(tmp_path))
    assert len(tune_student(finished, TuneSettings(trials=2), url(tmp_path))) == 2


def test_a_student_whose_making_was_killed_is_made_again(finished, quick, tmp_path, monkeypatch):
    def die(*args, **kwargs):
        raise KeyboardInterrupt  # as a kill: nobody tells the study

    settings = TuneSettings(trials=3, space=SearchSpace(0.5, 1.5, bits=(8,)))
    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "measure", die)
        with pytest.raises(KeyboardInterrupt):
            tune_student(finished, settings, url(tmp_path))
    found = tune_student(finished, replace(settings, trials=4), url(tmp_path))
    first_four = {one.changes["student-model"] for one in found if one.changes["student-prune"] == 0}
    assert first_four == {f"student-cnn(width={width})" for width in ("1.0", "0.5", "1.5")}
    assert tune_student(finished, replace(settings, trials=4), url(tmp_path)) == found


def test_no_time_is_no_student(finished, quick, tmp_path):
    notes = []
    assert tune_student(finished, TuneSettings(timeout=0), url(tmp_path), notes.append) == []
    assert notes == ["0 seconds are over after 0 students"]


def test_a_storage_that_is_none_is_refused(finished, tmp_path):
    (tmp_path / "tune.db").write_bytes(b"not a database, however long it may be" * 100)
    for wrong in (url(tmp_path), url(tmp_path / "nowhere"), "hello", "nonsense://x"):
        with pytest.raises(UsageError, match="can not be opened"):
            tune_student(finished, TuneSettings(trials=1), wrong)


def test_an_architecture_without_a_width_is_refused(finished, tmp_path):
    from dataclasses import replace

    narrow = replace(finished, config=finished.config.model_copy(update={"student_model": "perceptron"}))
    with pytest.raises(UsageError, match="width"):
        tune_student(narrow, TuneSettings(trials=1), url(tmp_path))
    assert not (tmp_path / "tune.db").exists()


def test_parameters_are_valid_keys(finished):
    config = finished.config.model_copy(update={"student_model": "mobilenet-v2(width=0.5, side=64)"})
    space, layers = SearchSpace(), ["0.0.weight", "features.3.weight"]
    for point in space.starting_points(layers, [{layers[0]: 4, layers[1]: 2}]):
        assert point.keys() == space.distributions(layers).keys()
        changes = space.changes(config, point)
        assert changes["student-model"] == f"mobilenet-v2(width={point['width']}, side=64)"
        type(config).from_mapping({**config.to_mapping(), **changes})
    params = {"width": 0.1 + 0.2, "student-quantize": "ptq", "bits 0.0.weight": 4, "bits features.3.weight": 8}
    assert space.changes(config, params)["student-model"].startswith("mobilenet-v2(width=0.3,")
    assert space.changes(config, params)["student-bits"] == "0.0.weight=4"
    assert space.changes(config, params | {"student-quantize": "none"})["student-bits"] == ""


def test_bits_that_no_layer_can_have_are_refused():
    for bits in ((), (8, 3), (16,)):
        with pytest.raises(UsageError, match="expected some of 8, 4, 2"):
            SearchSpace(bits=bits)
    assert SearchSpace(bits=(2, 8, 2)) == SearchSpace(bits=(8, 2))


def test_widths_out_of_range_are_refused():
    for narrowest, widest in itertools.product((0.01, 1.0), (5.0, 0.5)):
        with pytest.raises(UsageError, match="can not be searched"):
            SearchSpace(narrowest, widest)
