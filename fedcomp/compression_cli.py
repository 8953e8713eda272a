"""The command line of what comes after a run: explain, tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from fedcomp.tuning import TuneSettings

commands = typer.Typer()
"""Commands beside `student`."""

_Run = Annotated[Path, typer.Argument(metavar="RUN", exists=True, file_okay=False, help="A finished run.")]


@commands.command(epilog="Example: fedcomp explain runs/fashion --student runs/fashion/student --bits 8 --bits 4")
def explain(
    run_folder: _Run,
    student: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A student's folder; default the run's own model alone."),
    ] = None,
    bits: Annotated[
        list[int] | None, typer.Option(min=2, max=16, help="Of one layer's weights; repeatable; default 8 6 4 3 2.")
    ] = None,
    prune: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="Share of one layer's weights; repeatable; default 0.5 0.8 0.9."),
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Validation images; 0 is all.")] = 0,
    maps: Annotated[int, typer.Option(min=1, help="Images of each class whose attribution maps are compared.")] = 2,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Default RUN/explain.")] = None,
) -> None:
    """Tell what each layer stands, what is lost by class, how sure models are, and where the bytes went.

    Layers are quantized and pruned one at a time. Nothing is measured on the test set.
    """
    from fedcomp.explaining import ExplainSettings, explain_run
    from fedcomp.explaining.pictures import draw_explanation
    from fedcomp.explaining.tables import explanation_tables
    from fedcomp.files import asked_to_write, write_atomically

    asked = ExplainSettings(num_images=images, maps_per_class=maps)
    settings = ExplainSettings(
        bits=tuple(bits or asked.bits),
        prune_ratios=tuple(prune or asked.prune_ratios),
        num_images=images,
        maps_per_class=maps,
    )
    console = Console()
    with console.status("explain") as status:
        found = explain_run(run_folder, settings, student=student, note=status.update)
        target = out or run_folder / "explain"
        with asked_to_write(f"the folder {target}"):
            target.mkdir(parents=True, exist_ok=True)
            write_atomically(target / "explain.json", found.to_json().encode())
            draw_explanation(found, target)
    for table in explanation_tables(found):
        console.print(table)
    console.print(f"figures and pictures: {target}", markup=False, highlight=False, soft_wrap=True)


@commands.command(
    epilog="Example: fedcomp tune runs/fashion --trials 30 --epochs 20 --width 0.5 1.2; "
    "fedcomp tune runs/fashion --codec-budget 3300"
)
def tune(
    run_folder: _Run,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Students in all, with those of before; default 20.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="After these no further student is begun.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of distillation; default the run's.")] = None,
    width: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LO HI", help="Of the architecture; default 0.25 1.5.")
    ] = None,
    bits: Annotated[
        list[int] | None, typer.Option(help="That a layer's weights can have; repeatable; default 8 4 2.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Search for a short time of one image, too.")] = False,
    tolerance: Annotated[
        float | None, typer.Option(min=0, max=1, help="Validation accuracy that may be lost; default 0.005.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Of the study, SQLAlchemy's; default sqlite:///RUN/tune.db.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The run's configuration with the chosen student; TOML.")
    ] = None,
    codec_budget: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="Search an update codec for this budget instead.")
    ] = None,
) -> None:
    """Search a small student of a run, accurate on the validation set; or a codec for a budget of bytes.

    A search that was ended goes on with the same command. The test set is not looked at.
    """
    if codec_budget:
        for_student = {
            "--trials": trials,
            "--timeout": timeout,
            "--epochs": epochs,
            "--width": width,
            "--bits": bits or None,
            "--latency": latency or None,
            "--tolerance": tolerance,
            "--storage": storage,
            "--out": out,
        }
        if wrong := [name for name, value in for_student.items() if value is not None]:
            raise UsageError(f"{', '.join(wrong)} can not be used with --codec-budget")
        _tune_codec(run_folder, codec_budget)
        return
    from fedcomp.tuning import SearchSpace, TuneSettings

    defaults = TuneSettings()
    narrowest, widest = width or (defaults.space.narrowest, defaults.space.widest)
    settings = TuneSettings(
        trials=trials or defaults.trials,
        timeout=timeout,
        epochs=epochs,
        space=SearchSpace(narrowest, widest, tuple(bits or defaults.space.bits)),
        with_latency=latency,
    )
    url = storage or f"sqlite:///{run_folder.resolve() / 'tune.db'}"
    _tune_student(run_folder, settings, url, 0.005 if tolerance is None else tolerance, out)


def _tune_student(run_folder: Path, settings: TuneSettings, url: str, tolerance: float, out: Path | None) -> None:
    import shlex

    from fedcomp.config import RunConfig
    from fedcomp.files import asked_to_write, write_atomically
    from fedcomp.student import FinishedRun
    from fedcomp.tuning import choose, tune_student
    from fedcomp.tuning.report import draw_front, front_table

    console, run = Console(), FinishedRun.read(run_folder, {"teacher": "global"})
    with console.status("tune"):
        found = tune_student(run, settings, url, note=lambda text: console.print(text, markup=False, soft_wrap=True))
    if not found:
        raise UsageError("no student was tried: the timeout is too short")
    chosen = choose(found, tolerance)
    console.print(front_table(found, chosen))
    draw_front(found, chosen, run_folder / "tune.svg")
    print(f"drew {run_folder / 'tune.svg'}")
    if out:
        config = RunConfig.from_mapping({**run.config.to_mapping(), **chosen.changes, "out-dir": "", "resume": False})
        with asked_to_write(str(out)):
            write_atomically(out, config.to_toml().encode())
        print(f"wrote {out}")
    options = [part for key, value in chosen.changes.items() for part in ("--set", f"{key}={value}")]
    print(shlex.join(["fedcomp", "student", str(run_folder), *options]))


def _tune_codec(run_folder: Path, budget: int) -> None:
    from fedcomp.student import FinishedRun
    from fedcomp.tuning import fit_codecs
    from fedcomp.tuning.report import codec_table

    run = FinishedRun.read(run_folder)
    fitted, refused = fit_codecs(run.update(), budget, seed=run.config.seed)
    Console().print(codec_table(fitted, refused, budget))
    print(f'codec = "{fitted[0].codec}"\nuplink-budget-bytes = {budget}')
