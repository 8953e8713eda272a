"""Searching students: each is a real one, a search goes on where it was, and another one is refused."""

import itertools

import pytest

from fedcomp.errors import UsageError
from fedcomp.tuning import SearchSpace, TuneSettings, measure_student, study, tune_student
from fedcomp.tuning.measure import Measured


@pytest.fixture
def quick(monkeypatch):
    """Figures by hand in the place of exporters, which take seconds; returns the changes that were asked for."""
    asked = []

    def measure(run, lesson, changes, *, with_latency):
        asked.append(changes)
        return Measured(0.5 + 0.01 * len(asked), 1000 + len(asked), 0.1 if with_latency else None)

    monkeypatch.setattr(study, "measure_student", measure)
    return asked


def url(folder):
    return f"sqlite:///{folder / 'tune.db'}"


def test_a_student_is_made_and_measured(finished):
    changes = {"student-model": "student-cnn(width=0.2)", "distill-epochs": 1, "student-quantize": "none"}
    found = measure_student(finished, finished.lesson(), changes, with_latency=True)
    assert found.num_bytes > 1000
    assert 0 <= found.accuracy <= 1
    assert found.p50_ms > 0


def test_starting_points_come_first_and_a_search_goes_on(finished, quick, tmp_path):
    settings = TuneSettings(trials=3, epochs=2, space=SearchSpace(0.5, 1.5))
    first = tune_student(finished, settings, url(tmp_path))
    assert [one.changes["student-model"] for one in first] == [
        f"student-cnn(width={width})" for width in ("1.0", "0.5", "1.5")
    ]
    assert all(changes["distill-epochs"] == 2 for changes in quick)
    assert "distill-epochs" not in first[0].changes
    more = TuneSettings(trials=6, epochs=2, space=SearchSpace(0.5, 1.5))
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


def test_another_search_is_refused(finished, quick, tmp_path):
    tune_student(finished, TuneSettings(trials=1, epochs=2), url(tmp_path))
    for other in (
        TuneSettings(trials=1, epochs=3),
        TuneSettings(trials=1, epochs=2, with_latency=True),
        TuneSettings(trials=1, epochs=2, space=SearchSpace(0.5, 1)),
    ):
        with pytest.raises(UsageError, match="holds another search"):
            tune_student(finished, other, url(tmp_path))
    assert len(quick) == 1


def test_what_fails_is_not_a_student(finished, quick, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(study, "measure_student", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tune_student(finished, TuneSettings(trials=2), url(tmp_path))
    assert len(tune_student(finished, TuneSettings(trials=2), url(tmp_path))) == 2


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
    space = SearchSpace()
    for point in space.starting_points():
        changes = space.changes(config, point)
        assert changes["student-model"] == f"mobilenet-v2(width={point['width']}, side=64)"
        type(config).from_mapping({**config.to_mapping(), **changes})
    assert space.changes(config, {"width": 0.1 + 0.2})["student-model"].startswith("mobilenet-v2(width=0.3,")


def test_widths_out_of_range_are_refused():
    for narrowest, widest in itertools.product((0.01, 1.0), (5.0, 0.5)):
        with pytest.raises(UsageError, match="can not be searched"):
            SearchSpace(narrowest, widest)
