"""The distillation experiment: names mean what they say, what is finished stays, validation data decide."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcomp.config import RunConfig
from fedcomp.distillation import KeptClients
from fedcomp.models import get_weights
from fedcomp.simulation.grid_of_runs import GridOfRuns
from fedcomp.student import CLIENTS_FOLDER, FinishedRun
from simulations import classroom
from simulations.classroom import NUM_TEACHERS, RATES, Classroom, fuse, learn_labels, measure_memory, teach
from simulations.distillation import TABLES, TEACHERS, report, run_pieces
from tests.finished_run import make_run

CONFIGS = Path(__file__).parent.parent / "configs"
QUICK = ("student-model=student-cnn(width=0.25)", "distill-epochs=3", "fusion-epochs=3", "temperature=2.0")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run with three clients: its model and what noise makes of it, one of them worthless."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "tiny", **{"proxy-size": 300})
    weights, rng = get_weights(FinishedRun.read(folder).model), np.random.default_rng(0)
    kept = KeptClients(folder / CLIENTS_FOLDER)
    for client, noise in enumerate((0.02, 0.03, 10.0)):
        disturbed = {n: v + noise * rng.standard_normal(v.shape).astype(np.float32) for n, v in weights.items()}
        kept.add(client, disturbed)
    kept.seal()
    return folder


@pytest.fixture
def room(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "RATES", {"adam": (1e-2, 1e-6), "sgd": (0.05,)})
    monkeypatch.setattr(classroom, "FUSION_RATES", (1e-3, 10.0))
    return Classroom(run_folder, tmp_path / "pieces", QUICK)


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_the_configuration_that_its_name_says(name):
    config = RunConfig.from_toml(CONFIGS / "frontier-dirichlet.toml", TEACHERS[name])
    codecs = {"float32": "none", "one-bit": "rotate | eden(bits=1, unbiased=true)", "thin": "thin"}
    assert config.codec == codecs[name.removesuffix("-constant")]
    assert config.learning_rate_schedule == ("constant" if name.endswith("-constant") else "cosine")
    assert (config.num_server_rounds, config.validation_size, config.proxy_size) == (200, 5000, 4000)
    assert config.keep_clients
    assert config.evaluate_on == "test"


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("global-T=1", {"teacher": "global", "temperature": 1.0}),
        ("global-T=4", {"teacher": "global", "temperature": 4.0}),
        ("global-sgd", {"distill_optimizer": "sgd"}),
        ("global-hints", {"hint_weight": 1.0}),
        ("global-hard", {"hard_label_weight": 1.0}),
        ("ensemble-T=2", {"teacher": "ensemble", "temperature": 2.0, "teacher_average": "logits"}),
        ("ensemble-probabilities", {"teacher": "ensemble", "teacher_average": "probabilities"}),
    ],
)
def test_a_lesson_is_the_configuration_that_its_name_says(variant, expected, room):
    how = TABLES["lessons"].variants[variant].keywords
    config = room.finished_run(*how["changes"]).config
    assert {key: getattr(config, key) for key in expected} == expected
    plain = room.finished_run("teacher=global").config.to_mapping()
    changed = {key.replace("-", "_") for key, value in config.to_mapping().items() if plain[key] != value}
    assert changed <= expected.keys()


def test_fewer_proxy_images_make_as_many_steps(room):
    run = room.finished_run("hint-weight=1.0", "teacher=global", "proxy-views=2")
    lesson, few = run.lesson(), run.lesson(200)
    assert len(few.proxy) == len(lesson.proxy) == len(few.teacher_logits) == len(few.hints) == 600
    assert len(np.unique(few.proxy.images[:300], axis=0)) <= 200
    assert (few.proxy.images[:200] == lesson.proxy.images[:200]).all()
    torch.testing.assert_close(few.teacher_logits[200:300], lesson.teacher_logits[:100])


def test_rates_are_chosen_on_validation_data_and_tried_once(room, monkeypatch):
    row = teach(room, ("teacher=ensemble",))
    assert row["learning_rate"] == 1e-2
    assert {path.stem for path in room.pieces.glob("*.json")} == {"rates-adam-0.01", "rates-adam-1e-06"}
    assert not any("test" in key or key == "accuracy" for key in json.loads(next(room.pieces.glob("*")).read_text()))
    monkeypatch.setattr(classroom, "_try_rate", lambda *_: pytest.fail("it is tried again"))
    assert learn_labels(room)["learning_rate"] == 1e-2


def test_labels_are_learned_on_images_that_the_gate_does_not_see(room, monkeypatch):
    lessons = []
    monkeypatch.setattr(classroom, "_taught", lambda run, lesson: lessons.append((run, lesson)) or {})
    learn_labels(room)
    ((run, lesson),) = lessons
    validation = run.held_out.validation
    assert (len(lesson.proxy), len(lesson.validation)) == (80, 20)
    assert (lesson.teacher_logits.argmax(dim=1).numpy() == validation.labels[:80]).all()
    assert (lesson.validation.labels == validation.labels[80:]).all()


def test_fusion_is_gated_and_drops_who_is_at_chance(room):
    row = fuse(room)
    assert row["validation_gain"] >= 0
    assert row["learning_rate"] == 1e-3
    assert (row["num_teachers"], row["num_dropped"]) == (2, 1)


def test_fifty_teachers_are_three_models_at_once(room):
    row = measure_memory(room)
    assert row["num_teachers"] == NUM_TEACHERS == 50
    assert row["models_at_once"] == 3


def test_a_piece_is_made_once_and_again_if_it_was_broken_off(room):
    made = []

    def make(_):
        made.append(len(made))
        if len(made) == 1:
            raise KeyboardInterrupt
        return {"accuracy": len(made)}

    with pytest.raises(KeyboardInterrupt):
        room.piece("lessons", "x", make)
    rows = [room.piece("lessons", "x", make) for _ in range(3)]
    assert rows == [{"table": "lessons", "variant": "x", "accuracy": 2}] * 3


def test_pieces_are_made_of_a_teacher_that_is_run_once(tmp_path, monkeypatch):
    grid, made = GridOfRuns(tmp_path, CONFIGS), []
    table = TABLES["fusion"]._replace(variants={"average": lambda room: made.append(room) or {"average_accuracy": 1}})
    monkeypatch.setitem(TABLES, "fusion", table)
    small = ["dataset=digits", "model=perceptron", "num-clients=2", "fraction-train=1.0", "num-server-rounds=1"]
    small += ["validation-size=100", "proxy-size=100"]
    for _ in range(2):
        run_pieces(grid, "fusion", "thin-constant", 3, num_workers=0, extra=small)
    assert [room.run for room in made] == [tmp_path / "frontier-dirichlet" / "thin-constant" / "3"]
    run = made[0].finished_run()
    assert run.config.student_model == "student-pyramid(width=0.85)"
    assert len(list(run.clients())) == 2


def write_pieces(grid, teacher, seed, *rows):
    folder = grid.folder("frontier-dirichlet", teacher, seed)
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"seed": seed, "codec": "of " + teacher}))
    room = Classroom(folder, grid.out / "pieces" / teacher / str(seed), ())
    for table, variant, row in rows:
        room.piece(table, variant, lambda _, row=row: row)


def fusion(average, fused):
    own = {"uplink_bytes": 2_000_000, "ensemble_accuracy": 0.9, "validation_gain": 0.001}
    return ("fusion", "average", {"average_accuracy": average, "fused_accuracy": fused, **own})


def test_finished_pieces_become_rows_and_tables(tmp_path, capsys):
    grid = GridOfRuns(tmp_path / "runs", CONFIGS)
    lesson = {"accuracy": 0.85, "points_to_teacher": -1.5}
    write_pieces(grid, "float32-constant", 0, fusion(0.88, 0.881))
    write_pieces(grid, "thin-constant", 0, fusion(0.87, 0.875), ("lessons", "ensemble-T=2", lesson))
    write_pieces(grid, "thin-constant", 1, fusion(0.86, 0.87))
    write_pieces(grid, "thin", 0, fusion(0.9, 0.9))
    report(grid, tmp_path)
    told = capsys.readouterr().out
    # Differences are within seeds: float32 was run with seed 0 only, and never along a cosine.
    assert "| thin-constant | average | 2 | 2.00 | 86.50 ± 0.71 | 87.25 ± 0.35 | +0.75 | -0.50 | 90.00 ± 0.00 |" in told
    assert "| thin | average | 1 | 2.00 | 90.00 ± 0.00 | 90.00 ± 0.00 | +0.00 |  | 90.00" in told
    assert "| thin-constant | ensemble-T=2 | 1 | 85.00 ± 0.00 | -1.50 ± 0.00 |" in told
    assert "students" not in told
    found = [json.loads(line) for line in (tmp_path / "distillation.jsonl").read_text().splitlines()]
    assert len(found) == 5
    assert all({"table", "teacher", "variant", "seed", "codec"} <= row.keys() for row in found)
    report(grid, tmp_path)
    assert len((tmp_path / "distillation.jsonl").read_text().splitlines()) == 5


def test_students_are_told_by_their_worst(tmp_path, capsys):
    grid = GridOfRuns(tmp_path / "runs", CONFIGS)
    for seed, same in enumerate((1.0, 0.9995)):
        parity = {form: {"same_class": same, "num_images": 10000} for form in ("float32", "int8")}
        row = {"int8_bytes": 53_000 + seed, "accuracy": 0.86, "points_to_teacher": -0.5, "parity": parity}
        row |= {"p50_share": 0.22, "stored_bytes": 10, "onnx_bytes": 140, "stored_points_to_int8": 0.0}
        write_pieces(grid, "thin", seed, ("students", "60kB", row))
    report(grid, tmp_path)
    worst = "99.95% of 10,000"
    row = f"| thin | 60kB | 2 | 53,001 | 86.00 ± 0.00 | -0.50 ± 0.00 | {worst} | {worst} | 0.22 | 1/14.0 |"
    assert row in capsys.readouterr().out


def test_every_table_has_its_teachers():
    assert all(set(table.teachers) <= TEACHERS.keys() for table in TABLES.values())
    assert {len(rates) for rates in RATES.values()} == {3}
