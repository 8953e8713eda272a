"""The command line: parse, call, print."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedcomp.command_line import run_command
from fedcomp.errors import UsageError

app = typer.Typer(
    help="Federated learning for thin pipes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Backend(StrEnum):
    """Where a simulation runs."""

    LOCAL = "local"
    RAY = "ray"


class ServerPart(StrEnum):
    """A part of the server benchmark."""

    CLIENT = "client"
    FOLD = "fold"
    SOAK = "soak"
    KILLS = "kills"


_InFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File to read.")]
_OutFile = Annotated[Path, typer.Argument(dir_okay=False, help="File to write.")]


@app.callback()
def options(
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
    runs = [("fedcomp", run(asked, num_workers=workers))]
    if baseline:
        runs.append(("float32", run_baseline(Path(folder), num_workers=workers, run=run)))
    _print_outcome(Path(folder), runs)


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


@app.command(epilog="Example: fedcomp encode delta.safetensors delta.fcz --codec 'topk(density=0.01) | ternary'")
def encode(
    source: _InFile,
    target: _OutFile,
    codec: Annotated[str, typer.Option(help="Codec text or preset name.")] = "thin",
    seed: Annotated[int, typer.Option(help="For stochastic codecs.")] = 0,
) -> None:
    """Encode a model update (.safetensors) into a frame (.fcz)."""
    from fedcomp.codecs import parse_codec
    from fedcomp.files import read_tensors, write_atomically
    from fedcomp.seeding import derive_rng

    delta = read_tensors(source)
    encoded = parse_codec(codec).encode(delta, rng=derive_rng(seed, "codec"))
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
    from fedcomp.files import pack_tensors, read_tensors, write_atomically

    spec = fedcomp.ModelSpec.of(read_tensors(like))
    write_atomically(target, pack_tensors(fedcomp.decode(source.read_bytes(), spec)))


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


bench = typer.Typer(help="Benchmarks: both sides in one run, medians and ratios.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.callback()
def bench_options() -> None:
    """Benchmarks: both sides in one run, medians and ratios."""


@bench.command(name="codecs", epilog="Example: fedcomp bench codecs --train configs/fashion.toml --plots bench/")
def bench_codecs(
    codec: Annotated[list[str] | None, typer.Option(help="Codec text or preset; default those of the bars.")] = None,
    delta: Annotated[list[Path] | None, typer.Option(exists=True, help="An update, .safetensors.")] = None,
    train: Annotated[
        Path | None, typer.Option(exists=True, help="Whose updates to measure, after some rounds; default digits.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds of that training; 0 for none.")] = 5,
    parameters: Annotated[int, typer.Option(min=0, help="Size of the synthetic updates; 0 for none.")] = 1_663_370,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results here, too.")] = None,
    plots: Annotated[Path | None, typer.Option(file_okay=False, help="Measure many codecs and draw them here.")] = None,
) -> None:
    """Bytes, time and memory of codecs, against copying the same floats and against what others send.

    Updates are synthetic, Laplace and Gauss, and those of a client that really trains.
    """
    from fedcomp.benchmarks import (
        DEFAULT_CODECS,
        benchmark_codecs,
        check_bars,
        compare_sparse,
        compare_symbols,
        draw_plots,
        sweep_codecs,
        synthetic_deltas,
    )
    from fedcomp.config import RunConfig
    from fedcomp.files import read_tensors, write_atomically

    deltas = (synthetic_deltas(parameters) if parameters else {}) | {
        path.stem: read_tensors(path) for path in delta or []
    }
    if rounds:
        from fedcomp.benchmarks.updates import train_updates

        config = RunConfig.from_toml(train, []) if train else RunConfig.from_mapping({"name": "digits"})
        deltas |= train_updates(config, num_rounds=rounds)
    codecs = list(dict.fromkeys([*(codec or DEFAULT_CODECS), *(sweep_codecs() if plots else [])]))
    results = benchmark_codecs(deltas, codecs)
    peers = [
        (name, result)
        for name, update in deltas.items()
        for compared in (
            *(compare_symbols(update, bits) for bits in (8, 6, 4)),
            *(compare_sparse(update, density) for density in (0.01, 0.0025)),
        )
        for result in compared
    ]
    bars = check_bars(results, peers)
    tables = {
        "codecs": [asdict(result) for result in results],
        "peers": [{"delta": name, **asdict(result)} for name, result in peers],
        "bars": [bar._asdict() for bar in bars],
    }
    for rows in tables.values():
        _print_table(rows)
    if json_:
        json_.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json_, json.dumps(tables, indent=2).encode())
    for path in draw_plots(results, plots) if plots else []:
        print(f"drew {path}")


@bench.command(name="simulation", epilog="Example: fedcomp bench simulation --model perceptron --rounds 15")
def bench_simulation(
    model: Annotated[str, typer.Option(help="perceptron, cnn, all or none.")] = "all",
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of each contestant.")] = 9,
    only: Annotated[
        list[str] | None,
        typer.Option(help="bare, bare-two, engine, engine-stock, ray-stock, engine-idle, ray-idle, engine-crowd."),
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results here, too.")] = None,
) -> None:
    """Time, first round and memory of simulations at the same work, in turn: a bare torch loop, this engine, Ray.

    100 clients of 600 images of Fashion-MNIST, 10 a round, one epoch in batches of 50. Then engines with clients that
    do nothing.
    """
    from fedcomp.benchmarks.simulation import benchmark_simulation, check_simulation, other_simulators
    from fedcomp.files import write_atomically

    report = benchmark_simulation(model, rounds, only)
    tables = {
        "results": [asdict(result) for result in report.results],
        "bars": [bar._asdict() for bar in check_simulation(report.results)],
        "others": [{"simulator": name, "here": what} for name, what in other_simulators().items()],
    }
    shown = [
        {
            "work": result.work,
            "who": result.contestant,
            "s a round": result.seconds_a_round,
            "/ bare": result.over_bare,
            "cpu / bare": result.processor_over_bare,
            "ms a client": result.milliseconds_a_client,
            "first": result.first_round,
            "GB": result.memory_gigabytes,
            "loss": result.loss,
        }
        for result in report.results
    ]
    for rows in (shown, tables["bars"], tables["others"]):
        _print_table(rows)
    for note in report.notes:
        print(note)
    if json_:
        json_.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json_, json.dumps(tables | {"notes": report.notes}, indent=2).encode())


@bench.command(name="server", epilog="Example: fedcomp bench server --only fold --updates 100")
def bench_server(
    only: Annotated[ServerPart | None, typer.Option(help="One part alone.")] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="Of the client's rounds, both ways: text, preset or none; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of the client, that are measured.")] = 15,
    updates: Annotated[int, typer.Option(min=1, help="Of the larger of two rounds that the server folds.")] = 1000,
    soak_rounds: Annotated[int, typer.Option(min=40, help="Of a server and two clients as real processes.")] = 200,
    kills: Annotated[int, typer.Option(min=1, help="Of the server, of clients and of both, at random moments.")] = 20,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results here, too.")] = None,
) -> None:
    """Time and memory of a client's round, and of a server that folds updates, at 1,663,370 parameters.

    The client is a process with NumPy and without torch, which stands still instead of training; both run on one
    thread. The server folds rounds of 10 updates and of more. With --only soak, real processes do many
    rounds, some seconds each, and what has grown is told; with --only kills, they are killed at random moments.
    """
    from fedcomp.benchmarks.server import (
        CLIENT_CODECS,
        benchmark_client_rounds,
        benchmark_folds,
        check_server,
        kill_at_random,
        soak,
    )
    from fedcomp.files import write_atomically

    parts = (ServerPart.CLIENT, ServerPart.FOLD) if only is None else (only,)
    clients = benchmark_client_rounds(codec or CLIENT_CODECS, rounds=rounds) if ServerPart.CLIENT in parts else []
    folds = benchmark_folds(sizes=sorted({10, updates})) if ServerPart.FOLD in parts else []
    soaked = soak(soak_rounds, print) if ServerPart.SOAK in parts else []
    killed = kill_at_random(kills, print) if ServerPart.KILLS in parts else []
    tables = {
        "client": [asdict(result) for result in clients],
        "fold": [asdict(result) for result in folds],
        "soak": [asdict(result) for result in soaked],
        "kills": [asdict(result) for result in killed],
        "bars": [bar._asdict() for bar in check_server(folds, soaked, killed)],
    }
    shown_clients = [
        {
            "codec": result.codec,
            "bytes down": result.bytes_down,
            "bytes up": result.bytes_up,
            "ms to decode": result.decode_milliseconds,
            "to encode": result.encode_milliseconds,
            "both": result.round_milliseconds,
            "MB idle": result.idle_megabytes,
            "at most": result.peak_megabytes,
        }
        for result in clients
    ]
    shown_folds = [
        {
            "codec": f"{result.codec}{', references' if result.references else ''}",
            "updates": result.updates,
            "bytes each": result.bytes_an_update,
            "a second": result.updates_a_second,
            "MB grown": result.grown_megabytes,
        }
        for result in folds
    ]
    for rows in (shown_clients, shown_folds, tables["soak"], tables["kills"], tables["bars"]):
        _print_table(rows)
    if json_:
        json_.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json_, json.dumps(tables, indent=2).encode())


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of equal keys."""
    if not rows:
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*("-" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)


def main() -> None:
    """Run the command line; exit code 0 on success, 2 for a usage error, 1 for any other failure."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    return run_command(app, arguments, "fedcomp")
