"""The command line of what is known of a run's models: explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
    from fedcomp.files import write_atomically

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
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "explain.json", found.to_json().encode())
        draw_explanation(found, target)
    for table in explanation_tables(found):
        console.print(table)
    console.print(f"figures and pictures: {target}", markup=False, highlight=False, soft_wrap=True)
