"""What does distillation win back, and how small a student carries it? Teachers are runs, and what they teach is rows.

::

    python -m simulations.distillation run --out RUNS [--tables fusion] [--teachers thin] [--seeds 0 1 2]
    python -m simulations.distillation report --out RUNS

A teacher is run once, and keeps the clients of its last round; all else is made from its folder. What is finished is
not done again, and a run that was broken off goes on after its last round. `docs/student.md` tells what came out.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedcomp.reporting import mean_and_spread, update_rows
from fedcomp.simulation.grid_of_runs import GridOfRuns
from simulations.classroom import NUM_TEACHERS, Classroom, fuse, learn_labels, measure_memory, ship, teach
from simulations.frontier import METHODS
from simulations.grid_arguments import grid_parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]
    Cell = Callable[[Rows], str]

_CONFIGS = Path(__file__).parent.parent / "configs"
_CONFIG = "frontier-dirichlet"
_KEEPS = ("keep-clients=true", "proxy-size=4000")
_CODECS = {"float32": "float32", "one-bit": "eden-1", "thin": "thin"}
_CONSTANT = "learning-rate-schedule=constant"

TEACHERS: Mapping[str, tuple[str, ...]] = {
    name + suffix: (*METHODS[method], *_KEEPS, *changes)
    for suffix, changes in {"": (), "-constant": (_CONSTANT,)}.items()
    for name, method in _CODECS.items()
}
"""What each changes in `frontier-dirichlet`.

Where the rate falls to zero the last clients hardly differ from their average; where it is constant, as in FedDF, they
do.
"""

_STUDENT = (
    "student-model=student-pyramid(width=0.85)",
    "distill-epochs=60",
    "temperature=2.0",
    "teacher=global",
    "fusion-epochs=20",
)


class Table(NamedTuple):
    """Pieces that are compared with each other.

    Args:
        teachers: Whose.
        variants: What makes the row of each.
        columns: What a mean over seeds is told by: a header, and what it makes of the seeds' rows.
    """

    teachers: Sequence[str]
    variants: Mapping[str, Callable[[Classroom], dict[str, Any]]]
    columns: Mapping[str, Cell]


def _mean(key: str, pattern: str = "{:.2f} ± {:.2f}", factor: float = 1.0) -> Cell:
    return lambda rows: pattern.format(*mean_and_spread([factor * row[key] for row in rows]))


def _share(above: str, below: str) -> Cell:
    return lambda rows: f"1/{mean_and_spread([row[below] / row[above] for row in rows])[0]:.1f}"


def _worst_parity(form: str) -> Cell:
    return lambda rows: (
        f"{min(row['parity'][form]['same_class'] for row in rows):.2%} of {rows[0]['parity'][form]['num_images']:,}"
    )


def _growth(number: int) -> Cell:
    return lambda rows: f"{max(row['grown_models'].get(str(number), float('nan')) for row in rows):.1f}"


def _less(key: str, minus: str) -> Cell:
    """Compare within seeds: they differ by more than methods do."""

    def cell(rows: Rows) -> str:
        pairs = [100 * (row[key] - row[minus]) for row in rows if minus in row]
        return f"{mean_and_spread(pairs)[0]:+.2f}" if pairs else ""

    return cell


def _variants(teacher: str) -> dict[str, Callable[[Classroom], dict[str, Any]]]:
    """Return what is varied of a lesson, one thing at a time."""
    changes = {
        "T=1": ("temperature=1.0",),
        "T=2": (),
        "T=4": ("temperature=4.0",),
        "sgd": ("distill-optimizer=sgd",),
        "hints": ("hint-weight=1.0",),
        "hard": ("hard-label-weight=1.0",),
    }
    if teacher == "ensemble":
        changes["probabilities"] = ("teacher-average=probabilities",)
    taught = f"teacher={teacher}"
    varied = {f"{teacher}-{name}": partial(teach, changes=(taught, *how)) for name, how in changes.items()}
    fewer = {f"{teacher}-proxy-{n}": partial(teach, changes=(taught,), num_proxy=n) for n in (200, 1600)}
    return {**varied, **fewer}


_ACCURACY, _TO_TEACHER = _mean("accuracy", factor=100), _mean("points_to_teacher", "{:+.2f} ± {:.2f}")
TABLES: Mapping[str, Table] = {
    "lessons": Table(
        ("thin", "thin-constant"),
        {"labels": learn_labels, **_variants("global"), **_variants("ensemble")},
        {"student": _ACCURACY, "points to teacher": _TO_TEACHER},
    ),
    "fusion": Table(
        tuple(TEACHERS),
        {"average": fuse},
        {
            "MB up": _mean("uplink_bytes", "{:,.2f}", 1e-6),
            "average": _mean("average_accuracy", factor=100),
            "fused": _mean("fused_accuracy", factor=100),
            "won": _less("fused_accuracy", "average_accuracy"),
            "fused to float32's average": _less("fused_accuracy", "float32_accuracy"),
            "ensemble itself": _mean("ensemble_accuracy", factor=100),
            "least won on validation": lambda rows: f"{100 * min(row['validation_gain'] for row in rows):+.2f}",
        },
    ),
    "students": Table(
        ("float32", "thin"),
        {
            "60kB": partial(ship, student="student-pyramid(width=0.85)"),
            "150kB": partial(ship, student="student-pyramid(width=1.45)"),
            "150kB-twice-as-long": partial(
                ship, student="student-pyramid(width=1.45)", changes=("distill-epochs=120",)
            ),
        },
        {
            "int8 bytes": lambda rows: f"{max(row['int8_bytes'] for row in rows):,}",
            "int8": _ACCURACY,
            "points to teacher": _TO_TEACHER,
            "same class: torch and ONNX": _worst_parity("float32"),
            "int8 and its kernels": _worst_parity("int8"),
            "p50 to teacher's": _mean("p50_share", "{:.2f}"),
            "stored to float32 .onnx": _share("stored_bytes", "onnx_bytes"),
            "stored to int8, points": _mean("stored_points_to_int8", "{:+.2f}"),
        },
    ),
    "memory": Table(
        ("thin",),
        {"ensemble": measure_memory},
        {
            "teachers": lambda rows: str(rows[0]["num_teachers"]),
            "models at once": lambda rows: str(max(row["models_at_once"] for row in rows)),
            "process grew by, in models": _growth(NUM_TEACHERS),
            "of one teacher": _growth(1),
        },
    ),
}


def run_pieces(
    grid: GridOfRuns, table: str, teacher: str, seed: int, *, num_workers: int | None, extra: Iterable[str] = ()
) -> None:
    """Make what is missing of a table for one teacher; run that, or go on with it, if it is not finished."""
    extra = tuple(extra)
    grid.run(_CONFIG, teacher, seed, [*TEACHERS[teacher], *extra], num_workers=num_workers)
    folder = grid.folder(_CONFIG, teacher, seed)
    classroom = Classroom(folder, _pieces(grid, teacher, seed), (*_STUDENT, *extra))
    for variant, make in TABLES[table].variants.items():
        classroom.piece(table, variant, make)


def rows(grid: GridOfRuns) -> Iterator[dict[str, Any]]:
    """Yield the row of each finished piece."""
    for teacher in TEACHERS:
        for folder, summary in grid.finished(_CONFIG, teacher):
            named = {"teacher": teacher, "seed": summary["seed"], "codec": summary["codec"]}
            for path in sorted(_pieces(grid, teacher, int(folder.name)).glob("*.json")):
                yield named | json.loads(path.read_text(encoding="utf-8"))


def report(grid: GridOfRuns, docs: Path) -> None:
    """Add the rows to those in `docs`, and print a table of means for each table that has any."""
    found = update_rows(docs / "distillation.jsonl", rows(grid), key=("table", "teacher", "variant", "seed"))
    for name, table in TABLES.items():
        own = {
            (teacher, variant): [
                {**row, **_float32(found, row)}
                for row in found
                if (row["table"], row["teacher"], row["variant"]) == (name, teacher, variant)
            ]
            for teacher in table.teachers
            for variant in table.variants
        }
        if not any(own.values()):
            continue
        headers = ("teacher", "variant", "seeds", *table.columns)
        print(f"\n### {name}\n\n| {' | '.join(headers)} |\n|{'---|' * len(headers)}")
        for (teacher, variant), of_variant in own.items():
            if of_variant:
                cells = (teacher, variant, len(of_variant), *(cell(of_variant) for cell in table.columns.values()))
                print(f"| {' | '.join(map(str, cells))} |")


def _float32(found: Rows, row: Mapping[str, Any]) -> dict[str, float]:
    """Return the average that float32 clients of the same seed and schedule come to, if they were run."""
    codec = next(name for name in _CODECS if row["teacher"].startswith(name))
    wanted = ("fusion", row["teacher"].replace(codec, "float32"), row["seed"])
    same = [other for other in found if (other["table"], other["teacher"], other["seed"]) == wanted]
    return {"float32_accuracy": same[0]["average_accuracy"]} if same else {}


def _pieces(grid: GridOfRuns, teacher: str, seed: int) -> Path:
    return grid.out / "pieces" / teacher / str(seed)


def main() -> None:
    """Run teachers and what they teach, or report what there is of it."""
    parser = grid_parser(__doc__)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--teachers", nargs="+", default=None, choices=TEACHERS, help="default all of a table")
    arguments = parser.parse_args()
    grid = GridOfRuns(arguments.out, _CONFIGS)
    if arguments.command == "report":
        report(grid, arguments.docs)
        return
    for seed in arguments.seeds:
        for table in arguments.tables:
            for teacher in TABLES[table].teachers:
                if arguments.teachers is None or teacher in arguments.teachers:
                    run_pieces(grid, table, teacher, seed, num_workers=arguments.workers, extra=arguments.set)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
