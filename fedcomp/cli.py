"""The command line: parse, call, print."""

from __future__ import annotations

import contextlib
import shlex
import sys
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedcomp.bench_cli import bench
from fedcomp.command_line import INTERRUPTED, run_command
from fedcomp.compression_cli import commands as compression_commands
from fedcomp.errors import UsageError
from fedcomp.run_files import BASELINE_FOLDER, README_FILE, STUDENT_FOLDER
from fedcomp.serving_cli import commands, store

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(
    help="Federated learning for thin pipes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(bench, name="bench")
app.add_typer(store, name="store")
app.add_typer(commands)
app.add_typer(compression_commands)


class Backend(StrEnum):
    """Where a simulation runs."""

    LOCAL = "local"
    RAY = "ray"


_InFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File to read.")]
_OutFile = Annotated[Path, typer.Argument(dir_okay=False, help="File to write.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fedcomp {version('fedcomp')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; stands anywhere.")] = False,
) -> None:
    """Federated learning for thin pipes."""


@app.command(
    epilog="Example: fedcomp simulate configs/demo.toml --set num-server-rounds=5 --baseline; "
    "fedcomp simulate --resume runs/demo; "
    "fedcomp simulate --app ~/my-flower-app --num-supernodes 100 --run-config 'num-server-rounds=5'"
)
def simulate(
    config: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A run's configuration, TOML.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME-DATE-TIME.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device of the clients; overrides the key.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16, or auto: what is fastest here; overrides the key.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Go on with the run in this folder after its last finished round."),
    ] = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="Run once more with plain float32 updates.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default one a core, 0 none. Results are the same.")
    ] = None,
    app_folder: Annotated[
        Path | None, typer.Option("--app", exists=True, file_okay=False, help="Run any Flower app instead: its folder.")
    ] = None,
    num_supernodes: Annotated[int | None, typer.Option(min=1, help="With --app: number of clients.")] = None,
    run_config: Annotated[
        list[str] | None,
        typer.Option(metavar="'KEY=VALUE ...'|FILE.toml", help="With --app: override its run config; repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --app: which clients are sampled; default 0.")] = None,
    backend: Annotated[
        Backend, typer.Option(help="local: fedcomp's engine; ray: Flower's own simulation, see docs/simulation.md.")
    ] = Backend.LOCAL,
    ray_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="With --backend ray: a running cluster's address.")
    ] = None,
) -> None:
    """Simulate a federation of many clients on this machine: a configuration of ours, or with --app any Flower app."""
    for_config = {
        "CONFIG": config,
        "--set": set_,
        "--out": out,
        "--device": device,
        "--precision": precision,
        "--resume": resume,
        "--baseline": baseline,
    }
    for_app = {"--app": app_folder, "--num-supernodes": num_supernodes, "--run-config": run_config, "--seed": seed}
    if wrong := [name for name, value in (for_config if app_folder else for_app).items() if value not in (None, False)]:
        raise UsageError(f"{', '.join(wrong)} can not be used {'with' if app_folder else 'without'} --app")
    if ray_address and backend is not Backend.RAY:
        raise UsageError("--ray-address can not be used without --backend ray")
    if app_folder:
        if num_supernodes is None:
            raise UsageError("--app needs --num-supernodes: how many clients?")
        _simulate_app(app_folder, num_supernodes, run_config or [], workers, seed, backend, ray_address)
    elif resume:
        begun = {"CONFIG": config, "--set": set_, "--out": out, "--device": device, "--precision": precision}
        if wrong := [name for name, value in begun.items() if value]:
            raise UsageError(f"{', '.join(wrong)} can not be used with --resume: the run's folder says how it began")
        if backend is not Backend.LOCAL:
            raise UsageError("--backend ray can not be used with --resume: clients' states on Ray are not kept")
        _resume(resume, baseline, workers)
    elif config:
        options = {"device": device, "precision": precision}
        changes = [*(set_ or []), *(f"{key}={value}" for key, value in options.items() if value)]
        _simulate_config(config, changes, out, baseline, workers, backend, ray_address)
    else:
        raise UsageError("name a configuration file, a run to --resume, or a Flower app with --app")


def _resume(folder: Path, baseline: bool, workers: int | None) -> None:
    from fedcomp.simulation import is_finished, run_baseline
    from fedcomp.simulation import resume as go_on

    if is_finished(folder):
        print(f"{folder} is finished: nothing is left to do")
    with _told_how_to_go_on(folder, baseline):
        runs = [("fedcomp", go_on(folder, num_workers=workers))]
        if baseline:
            runs.append(("float32", run_baseline(folder, num_workers=workers)))
    _print_outcome(folder, runs)


def _simulate_app(
    folder: Path,
    num_nodes: int,
    overrides: list[str],
    workers: int | None,
    seed: int | None,
    backend: Backend,
    ray_address: str | None,
) -> None:
    from fedcomp.simulation import run_app_folder, run_app_folder_on_ray

    if backend is Backend.LOCAL:
        run_app_folder(folder, num_nodes=num_nodes, overrides=overrides, num_workers=workers, seed=seed or 0)
    elif seed is not None:
        raise UsageError("--seed can not be used with --backend ray: Flower draws clients there as it likes")
    else:
        run_app_folder_on_ray(
            folder, num_nodes=num_nodes, overrides=overrides, num_workers=workers, ray_address=ray_address
        )


def _simulate_config(
    config: Path,
    changes: list[str],
    out: Path | None,
    baseline: bool,
    workers: int | None,
    backend: Backend,
    ray_address: str | None,
) -> None:
    from fedcomp.config import RunConfig
    from fedcomp.reporting import new_run_path
    from fedcomp.simulation import run_baseline, simulate_on_ray
    from fedcomp.simulation import simulate as simulate_here

    run = simulate_here if backend is Backend.LOCAL else partial(simulate_on_ray, ray_address=ray_address)
    asked = RunConfig.from_toml(config, changes)
    folder = str(out or asked.out_dir or new_run_path(asked.name))
    asked = RunConfig.from_mapping(asked.to_mapping() | {"out-dir": folder})
    told = _told_how_to_go_on(Path(folder), baseline) if backend is Backend.LOCAL else contextlib.nullcontext()
    with told:
        runs = [("fedcomp", run(asked, num_workers=workers))]
        if baseline:
            runs.append(("float32", run_baseline(Path(folder), num_workers=workers, run=run)))
    _print_outcome(Path(folder), runs)


@contextlib.contextmanager
def _told_how_to_go_on(folder: Path, baseline: bool) -> Iterator[None]:
    """On Ctrl-C, tell with which command the run would go on, if it would."""
    from fedcomp.simulation import is_finished, last_checkpoint_round

    try:
        yield
    except KeyboardInterrupt:
        server_round = last_checkpoint_round(folder / BASELINE_FOLDER if is_finished(folder) else folder)
        if server_round is None:
            raise
        command = shlex.join(["fedcomp", "simulate", "--resume", str(folder), *(["--baseline"] if baseline else [])])
        print(f"fedcomp: stopped after round {server_round}; go on with `{command}`", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _print_outcome(folder: Path, runs: list[tuple[str, dict[str, Any]]]) -> None:
    """Print a run's table, beside its float32 baseline if one was asked for."""
    from fedcomp.reporting import comparison_table

    console = Console()
    console.print(comparison_table(runs))
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: fedcomp plot runs/demo runs/demo/baseline --out curves.svg --target 0.9")
def plot(
    runs: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="Folders of runs.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The picture, SVG.")],
    target: Annotated[list[float] | None, typer.Option(min=0, max=1, help="An accuracy to reach.")] = None,
) -> None:
    """Draw accuracy over simulated time and bytes, and tell when each run reached an accuracy."""
    from fedcomp.reporting import RunHistory, draw_curves, format_bytes, format_seconds

    histories = [RunHistory.read(folder) for folder in runs]
    draw_curves(histories, out, targets=target or [])
    table = Table("run", "accuracy", "simulated time", "bytes up", "bytes up and down")
    for history in histories:
        for accuracy in target or []:
            seconds = history.cost_to_accuracy(accuracy, history.seconds())
            costs = (history.cost_to_accuracy(accuracy, c) for c in (history.uplink_bytes(), history.num_bytes()))
            table.add_row(
                history.name,
                f"{accuracy:.1%}",
                "-" if seconds is None else format_seconds(seconds),
                *("-" if cost is None else format_bytes(cost) for cost in costs),
            )
    if target:
        Console().print(table)
    print(f"drew {out}")


@app.command(epilog="Example: fedcomp report runs/demo runs/demo/baseline --out report.html")
def report(
    runs: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="Folders of runs, finished or not.")],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The page, HTML; default report.html in the first one's folder.")
    ] = None,
) -> None:
    """Write one self-contained page about some runs: outcome, curves, what was refused, how they differ."""
    from fedcomp.files import asked_to_write
    from fedcomp.reporting import write_page

    page = out or runs[0] / "report.html"
    with asked_to_write(f"the page {page}"):
        write_page(runs, page)
    print(f"wrote {page}")


@app.command(
    epilog="Example: fedcomp student runs/fashion --student 'student-pyramid(width=0.85)' --quantize qat --out phone"
)
def student(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", exists=True, file_okay=False, help="A finished run.")],
    model: Annotated[
        str | None, typer.Option("--student", help="Architecture, as student-cnn(width=2); default the run's.")
    ] = None,
    prune: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of its channels that are removed; default the run's.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="int8: ptq, qat (the better of both) or none; default the run's.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as distill-epochs.")
    ] = None,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Default RUN/student.")] = None,
) -> None:
    """Make a small student of a run's global model: distilled, pruned, int8, as verified ONNX with a model card."""
    from fedcomp.config import parse_override
    from fedcomp.student import student_from_run
    from fedcomp.student.summary import student_table

    options = {"student-model": model, "student-prune": prune, "student-quantize": quantize}
    changes = dict(map(parse_override, set_ or [])) | {k: v for k, v in options.items() if v is not None}
    target = out or run_folder / STUDENT_FOLDER
    console = Console()
    with console.status("student") as status:

        def note(text: str) -> None:
            status.update(text)
            if not console.is_terminal:
                console.print(text, markup=False, highlight=False, soft_wrap=True)

        card = student_from_run(
            run_folder, target, changes=changes, command=shlex.join(["fedcomp", *sys.argv[1:]]), note=note
        )
    console.print(student_table(card))
    console.print(f"model card: {target / README_FILE}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: fedcomp encode delta.safetensors delta.fcz --codec 'topk(density=0.01) | ternary'")
def encode(
    source: _InFile,
    target: _OutFile,
    codec: Annotated[str, typer.Option(help="Codec text or preset name.")] = "thin",
    seed: Annotated[int, typer.Option(help="For stochastic codecs.")] = 0,
) -> None:
    """Encode a model update (.safetensors) into a frame (.fcz)."""
    from fedcomp.codecs import parse_codec
    from fedcomp.files import asked_to_write, read_tensors, write_atomically
    from fedcomp.seeding import derive_rng

    delta = read_tensors(source)
    encoded = parse_codec(codec).encode(delta, rng=derive_rng(seed, "codec"))
    with asked_to_write(str(target)):
        write_atomically(target, encoded.frame)
    dense = sum(tensor.nbytes for tensor in delta.values())
    print(f"{dense} bytes of tensors -> {len(encoded.frame)} bytes, {dense / len(encoded.frame):.4g} times fewer")


@app.command(epilog="Example: fedcomp decode delta.fcz delta.safetensors --like model.safetensors")
def decode(
    source: _InFile,
    target: _OutFile,
    like: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A file with the model's tensors.")],
) -> None:
    """Decode a frame (.fcz) into a model update (.safetensors).

    Names and shapes do not travel: they are read from the model that both ends hold.
    """
    import fedcomp
    from fedcomp.files import asked_to_write, pack_tensors, read_tensors, write_atomically

    delta = fedcomp.decode(source.read_bytes(), fedcomp.ModelSpec.of(read_tensors(like)))
    with asked_to_write(str(target)):
        write_atomically(target, pack_tensors(delta))


@app.command(epilog="Example: fedcomp inspect delta.fcz")
def inspect(source: _InFile) -> None:
    """Show what every byte of a frame is for."""
    from fedcomp.codecs.explain import explain_frame

    explained = explain_frame(source.read_bytes())
    table = Table("part", "bytes", "share", "how")
    for part in explained.parts:
        table.add_row(part.name, str(part.num_bytes), f"{part.num_bytes / explained.num_bytes:.1%}", part.how)
    table.add_section()
    table.add_row("total", str(explained.num_bytes), "100.0%", explained.codec)
    Console().print(table)


def main() -> None:
    """Run the command line; exit code 0 on success, 2 for a usage error, 1 for any other failure."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    return run_command(app, arguments, "fedcomp")
