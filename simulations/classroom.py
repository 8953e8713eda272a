"""What is measured of one finished teacher: a piece is a row, kept in a file as soon as it is there.

Everything here is chosen on the validation images: rates by the pieces of table ``rates``, epochs by the gate inside
`distill`. Of the test images a row has figures, and nothing is chosen by them.
"""

from __future__ import annotations

import copy
import json
import weakref
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.benchmarks.memory import peak_memory
from fedcomp.config import parse_override
from fedcomp.distillation import DistillSettings, EnsembleTeacher, distill, proxy_images
from fedcomp.files import write_atomically
from fedcomp.models import get_weights
from fedcomp.store import Measure, compress
from fedcomp.student import FinishedRun, Lesson, StudentSettings, export_student, train_student
from fedcomp.training import evaluate, evaluate_logits, memory_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from fedcomp.distillation import DistillReport
    from fedcomp.types import Model, NDArray

RATES = {"adam": (2e-3, 4e-3, 8e-3), "sgd": (0.02, 0.05, 0.1)}
FUSION_RATES = (1e-4, 1e-3)
NUM_TEACHERS = 50
_CALIBRATION_IMAGES = 512

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Classroom:
    """One finished run and the pieces that were made of it.

    Args:
        run: The run's folder.
        pieces: Folder of the rows, a file each, and of exported students.
        changes: ``key=value``, of the run's configuration: how students are made unless a piece says otherwise.
    """

    run: Path
    pieces: Path
    changes: tuple[str, ...]

    def piece(self, table: str, variant: str, make: Callable[[Classroom], Row]) -> Row:
        """Return a piece's row: from its file, or made now."""
        path = self.pieces / f"{table}-{variant}.json"
        if not path.is_file():
            row = make(self)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"table": table, "variant": variant, **row}).encode())
        found: Row = json.loads(path.read_text(encoding="utf-8"))
        return found

    def finished_run(self, *changes: str) -> FinishedRun:
        """Read the run; later changes win over earlier ones, and over those of all pieces."""
        return FinishedRun.read(self.run, dict(map(parse_override, (*self.changes, *changes))))

    def rate(self, optimizer: str) -> float:
        """Return the learning rate whose student of the global model is best on the validation images."""
        tried = {
            rate: self.piece("rates", f"{optimizer}-{rate:g}", partial(_try_rate, optimizer, rate))
            for rate in RATES[optimizer]
        }
        return max(tried, key=lambda rate: tried[rate]["validation_accuracy"])


def teach(classroom: Classroom, changes: Iterable[str] = (), num_proxy: int | None = None) -> Row:
    """Teach a student as the changes say.

    Args:
        classroom: Whose run teaches.
        changes: ``key=value``.
        num_proxy: Proxy images to learn from, as often as makes the same number of steps; None is all.
    """
    run = classroom.finished_run(*changes)
    rate = classroom.rate(run.config.distill_optimizer)
    run = classroom.finished_run(*changes, f"distill-learning-rate={rate}")
    return _taught(run, run.lesson(num_proxy)) | {"learning_rate": rate}


def learn_labels(classroom: Classroom) -> Row:
    """Train the same student without any teacher: on four in five of the validation images, by their labels."""
    rate = classroom.rate("adam")
    run = classroom.finished_run("hard-label-weight=1.0", "proxy-views=1", f"distill-learning-rate={rate}")
    labelled = run.held_out.validation
    learn, gate = np.split(np.arange(len(labelled)), [4 * len(labelled) // 5])
    answers = F.one_hot(torch.from_numpy(labelled.labels[learn]), labelled.num_classes).float()
    lesson = Lesson("labels", answers, labelled.take(learn), labelled.take(gate), run.test)
    return _taught(run, lesson) | {"learning_rate": rate}


def fuse(classroom: Classroom) -> Row:
    """Distill the last round's clients into their average, which is the run's model, as FedDF's fusion does."""
    run = classroom.finished_run()
    proxy, validation = proxy_images(run.config, run.held_out.proxy, run.model), run.held_out.validation
    ensemble = run.ensemble(proxy)
    trials = []
    for rate in FUSION_RATES:
        model, settings = copy.deepcopy(run.model), replace(DistillSettings.of_fusion(run.config), learning_rate=rate)
        with memory_format(model, "channels-last"):
            report = distill(model, ensemble.logits(), proxy, validation, settings, seed=run.config.seed)
        trials.append((report, rate, model))
    report, rate, model = max(trials, key=lambda trial: trial[0].best_accuracy)
    return {
        "uplink_bytes": run.summary["uplink_bytes"],
        "average_accuracy": evaluate(run.model, run.test).accuracy,
        "fused_accuracy": evaluate(model, run.test).accuracy,
        "ensemble_accuracy": evaluate_logits(run.ensemble(run.test).logits(), run.test).accuracy,
        "validation_gain": report.best_accuracy - report.start_accuracy,
        "best_epoch": report.best_epoch,
        "learning_rate": rate,
        "num_teachers": ensemble.num_teachers,
        "num_dropped": ensemble.num_dropped,
    }


def ship(classroom: Classroom, student: str, changes: Sequence[str] = ()) -> Row:
    """Make a student that is small enough for a phone, and store it: what the bars of the student are about."""
    rate = f"distill-learning-rate={classroom.rate('adam')}"
    run = classroom.finished_run(f"student-model={student}", "student-quantize=qat", rate, *changes)
    settings, model, lesson = StudentSettings.of(run.config), run.build(student), run.lesson()
    train_student(model, lesson, settings)
    folder = classroom.pieces / ", ".join((student, *changes))
    card = export_student(model, run.model, lesson, settings, folder, run=run.summary, command="simulations")
    teacher, small, int8 = (card.variants[name] for name in ("teacher", "float32", "int8"))
    measured_on = Measure(run.held_out.validation.images, run.held_out.validation.labels)
    stored = compress((folder / small.file).read_bytes(), measured_on, lesson.proxy.images[:_CALIBRATION_IMAGES])
    stored_accuracy = Measure(run.test.images, run.test.labels).accuracy(stored.content)
    return {
        "student": student,
        "quantization": card.quantization,
        "teacher_accuracy": teacher.accuracy,
        "accuracy": int8.accuracy,
        "unquantized_accuracy": small.accuracy,
        "int8_bytes": int8.num_bytes,
        "points_to_teacher": 100 * (int8.accuracy - teacher.accuracy),
        "parity": {name: asdict(parity) for name, parity in card.parity.items()},
        "p50_share": int8.latency.p50_ms / teacher.latency.p50_ms,
        "onnx_bytes": small.num_bytes,
        "stored_bytes": len(stored.artifact),
        "stored_accuracy": stored_accuracy,
        "stored_points_to_int8": 100 * (stored_accuracy - int8.accuracy),
    }


def measure_memory(classroom: Classroom) -> Row:
    """Let fifty teachers vote, the kept ones again and again; count models that live at once, and the process's growth.

    The count has the run's own model, the one that clients are loaded into, and those of clients that somebody holds.
    The growth, in models, has what a process takes beside: the file that is read, and what is made of the one image
    that they vote on.
    """
    run = classroom.finished_run()
    one = run.held_out.validation.take(np.arange(1))
    living = _Living()

    def hear(number: int) -> EnsembleTeacher:
        teacher = EnsembleTeacher(copy.deepcopy(run.model), one, one)
        again_and_again = chain.from_iterable(run.clients() for _ in range(number))
        teacher.hear(map(living.count, islice(again_and_again, number)))
        return teacher

    hear(1)  # what libraries set up in their first call is no model
    model_bytes = sum(values.nbytes for values in get_weights(run.model).values())
    grown = {number: peak_memory(partial(hear, number)) for number in (1, NUM_TEACHERS)}
    return {
        "num_teachers": NUM_TEACHERS,
        "models_at_once": 2 + living.most,
        "model_bytes": model_bytes,
        "grown_models": {str(number): size / model_bytes for number, size in grown.items() if size is not None},
    }


class _Living:
    """Counts models that are not forgotten yet."""

    def __init__(self) -> None:
        self._seen: list[weakref.ref[NDArray]] = []
        self.most = 0

    def count(self, weights: Model) -> Model:
        """Take note of a model that has just been made."""
        self._seen = [seen for seen in self._seen if seen() is not None]
        self._seen.append(weakref.ref(next(iter(weights.values()))))
        self.most = max(self.most, len(self._seen))
        return weights


def _try_rate(optimizer: str, rate: float, classroom: Classroom) -> Row:
    run = classroom.finished_run("teacher=global", f"distill-optimizer={optimizer}", f"distill-learning-rate={rate}")
    report = _train(run, run.lesson())[1]
    return {"learning_rate": rate, "validation_accuracy": report.best_accuracy, "best_epoch": report.best_epoch}


def _taught(run: FinishedRun, lesson: Lesson) -> Row:
    student, report = _train(run, lesson)
    teacher_accuracy, accuracy = evaluate(run.model, run.test).accuracy, evaluate(student, run.test).accuracy
    return {
        "teacher_accuracy": teacher_accuracy,
        "accuracy": accuracy,
        "points_to_teacher": 100 * (accuracy - teacher_accuracy),
        "validation_accuracy": report.best_accuracy,
        "best_epoch": report.best_epoch,
    }


def _train(run: FinishedRun, lesson: Lesson) -> tuple[torch.nn.Module, DistillReport]:
    student = run.build(run.config.student_model)
    return student, train_student(student, lesson, StudentSettings.of(run.config))
