"""``fedcomp explain``: figures, pictures, and one line for what is wrong."""

import json
import shutil

import pytest

from fedcomp.cli import run
from fedcomp.codecs import parse_codec
from fedcomp.explaining import bytes_by_tensor
from fedcomp.types import add_delta

QUICK = ["--bits", "4", "--prune", "0.5", "--images", "60", "--maps", "1"]


def test_a_student_is_explained(run_folder, student_folder, tmp_path, capsys):
    out = tmp_path / "explained"
    assert run(["explain", str(run_folder), "--student", str(student_folder), *QUICK, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "One layer of the student" in shown
    assert str(out) in shown
    names = {"explain.json", "sensitivity.svg", "reliability.svg", "bytes.svg", "saliency.svg"}
    assert {path.name for path in out.iterdir()} == names
    figures = json.loads((out / "explain.json").read_text())
    assert figures["models"].keys() == {"teacher", "student"}
    assert figures["models"]["teacher"]["accuracy"] > figures["models"]["student"]["accuracy"] + 0.3
    assert len(figures["saliency_drift"]) == 10
    assert {row["change"] for row in figures["sensitivity"]["rows"]} == {"4 bits", "50% pruned"}
    assert all(row["num_bytes"] == sum(row["ledger"].values()) for row in figures["wire"]["tensors"])


def test_without_a_student_the_runs_own_model_is(run_folder, capsys):
    assert run(["explain", str(run_folder), *QUICK]) == 0
    assert "One layer of the teacher" in capsys.readouterr().out
    figures = json.loads((run_folder / "explain" / "explain.json").read_text())
    assert figures["models"].keys() == {"teacher"}
    assert figures["saliency_drift"] == {}
    assert not (run_folder / "explain" / "saliency.svg").exists()


def test_pictures_repeat_byte_for_byte(run_folder, student_folder, tmp_path):
    for name in ("first", "second"):
        out = tmp_path / name
        assert run(["explain", str(run_folder), "--student", str(student_folder), *QUICK, "--out", str(out)]) == 0
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_the_update_leads_from_the_seed_to_the_model(finished):
    from fedcomp.models import get_weights

    first, last = get_weights(finished.build(finished.config.model)), get_weights(finished.model)
    moved = add_delta(first, finished.update())
    assert all(abs(moved[name] - last[name]).max() < 1e-6 for name in last)


def test_tensors_are_encoded_alone(finished):
    update, codec = finished.update(), parse_codec("topk(density=0.1) | ternary")
    rows = bytes_by_tensor(update, codec)
    assert [row.tensor for row in rows] == list(update)
    for row in rows:
        assert row.ledger.total == len(codec.encode({row.tensor: update[row.tensor]}).frame)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("[]", "card.json is a list, expected an object"),
        ("{", "card.json: Expecting property name"),
        ('{"model": 4}', "holds no student's card: its model is 4, expected a name"),
        ('{"model": "cnn"}', "student.safetensors"),
    ],
)
def test_a_folder_that_holds_no_student_is_refused(run_folder, tmp_path, card, message, capsys):
    (tmp_path / "card.json").write_text(card)
    assert run(["explain", str(run_folder), "--student", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_named(run_folder, tmp_path, capsys):
    assert run(["explain", str(tmp_path)]) == 2
    assert "is not the folder of a finished run" in capsys.readouterr().err
    assert run(["explain", str(run_folder), "--bits", "1"]) == 2
    blind = tmp_path / "blind"
    shutil.copytree(run_folder, blind)
    text = (blind / "config.toml").read_text()
    (blind / "config.toml").write_text(text.replace("validation-size = 100", "validation-size = 0"))
    assert run(["explain", str(blind)]) == 2
    assert "no validation images" in capsys.readouterr().err
