"""The command line of the benchmarks: parse, call, print."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer looks at it
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedcomp.errors import UsageError
from fedcomp.files import write_json

bench = typer.Typer(help="Benchmarks: both sides in one run, medians and ratios.", no_args_is_help=True)


class ServerPart(StrEnum):
    """A part of the server benchmark."""

    CLIENT = "client"
    FOLD = "fold"
    SOAK = "soak"
    KILLS = "kills"


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
    from fedcomp.files import read_tensors

    deltas = synthetic_deltas(parameters) if parameters else {}
    for path in delta or []:
        if path.stem in deltas:
            raise UsageError(f"two updates are called {path.stem}: {path} needs another name")
        deltas[path.stem] = read_tensors(path)
    if rounds:
        from fedcomp.benchmarks.updates import train_updates

        config = RunConfig.from_toml(train, []) if train else RunConfig.from_mapping({"name": "digits"})
        deltas |= train_updates(config, num_rounds=rounds)
    if not deltas:
        raise UsageError("there is no update to measure: give --delta, or --rounds or --parameters above 0")
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
        _write_json(tables, json_)
    for path in draw_plots(results, plots) if plots else []:
        print(f"drew {path}")


@bench.command(name="context", epilog="Example: fedcomp bench context --train configs/frontier-dirichlet.toml")
def bench_context(
    train: Annotated[
        Path | None, typer.Option(exists=True, help="Whose updates to measure; default digits, five of 20 clients.")
    ] = None,
    density: Annotated[list[float] | None, typer.Option(min=1e-6, max=0.06, help="Of the masks; repeatable.")] = None,
    round_: Annotated[
        list[int] | None, typer.Option("--round", min=2, help="When to measure; default 5 to 200, digits 5 to 30.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results here, too.")] = None,
) -> None:
    """What it saves that both ends know how the model has moved, on the sparse updates of a real training.

    Positions against what independent ones take, against pcodec on gaps and against NNCodec, if that is installed; what
    they take by one signal at a time; and the time of `ultra` with the same knowledge.
    """
    from fedcomp.benchmarks.context import (
        DENSITIES,
        MEASURED_ROUNDS,
        benchmark_context,
        check_context,
        mean_signals,
    )
    from fedcomp.config import RunConfig

    digits = {"name": "digits", "fraction-train": 0.25}
    config = RunConfig.from_toml(train, []) if train else RunConfig.from_mapping(digits)
    rounds = round_ or (MEASURED_ROUNDS if train else MEASURED_ROUNDS[:2])
    results = benchmark_context(config, densities=density or DENSITIES, rounds=rounds)
    bars = [bar._asdict() for bar in check_context(results)]
    shown = [
        {
            "density": result.density,
            "round": result.round,
            "positions": result.positions_bytes,
            "/ bound": result.over_bound,
            "/ gaps": result.over_gaps,
            "/ blind": result.over_blind,
            "/ CABAC": result.over_temporal,
            "ultra ms": result.known_encode_ms,
            "back": result.known_decode_ms,
        }
        for result in results
    ]
    for rows in (shown, mean_signals(results), bars):
        _print_table(rows)
    if json_:
        _write_json({"context": [asdict(result) for result in results], "bars": bars}, json_)


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
        _write_json(tables | {"notes": report.notes}, json_)


@bench.command(name="server", epilog="Example: fedcomp bench server --only fold --updates 100")
def bench_server(
    only: Annotated[ServerPart | None, typer.Option(help="One part alone.")] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="Of the client's rounds, both ways: text, preset or none; repeatable.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Of the client, that are measured; default 15.")] = None,
    updates: Annotated[
        int | None, typer.Option(min=1, help="Of the larger of two rounds that the server folds; default 1000.")
    ] = None,
    soak_rounds: Annotated[
        int | None, typer.Option(min=40, help="Of a server and four clients as real processes; default 200.")
    ] = None,
    kills: Annotated[
        int | None, typer.Option(min=1, help="Of the server, of clients and of both, at random moments; default 20.")
    ] = None,
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

    parts = (ServerPart.CLIENT, ServerPart.FOLD) if only is None else (only,)
    options: dict[ServerPart, dict[str, Any]] = {
        ServerPart.CLIENT: {"--codec": codec, "--rounds": rounds},
        ServerPart.FOLD: {"--updates": updates},
        ServerPart.SOAK: {"--soak-rounds": soak_rounds},
        ServerPart.KILLS: {"--kills": kills},
    }
    others = {name: value for part, of_part in options.items() if part not in parts for name, value in of_part.items()}
    if wrong := [name for name, value in others.items() if value]:
        raise UsageError(f"{', '.join(wrong)} measures nothing of {' and '.join(parts)}: see --only")
    clients = benchmark_client_rounds(codec or CLIENT_CODECS, rounds=rounds or 15) if ServerPart.CLIENT in parts else []
    folds = benchmark_folds(sizes=sorted({10, updates or 1000})) if ServerPart.FOLD in parts else []
    soaked = soak(soak_rounds or 200, print) if ServerPart.SOAK in parts else []
    killed = kill_at_random(kills or 20, print) if ServerPart.KILLS in parts else []
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
        _write_json(tables, json_)


def _write_json(content: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


@bench.command(name="training", epilog="Example: fedcomp bench training --model resnet8-gn")
def bench_training(
    model: Annotated[str, typer.Option(help="Whose steps to measure.")] = "resnet8-gn",
    turns: Annotated[int, typer.Option(min=1, help="Measured turns of each.")] = 15,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results here, too.")] = None,
) -> None:
    """Processor time of views and of a step of each objective, on one thread, against the weak view and supervised."""
    from fedcomp.benchmarks.training import benchmark_training

    results = [asdict(result) for result in benchmark_training(model, turns=turns)]
    _print_table(results)
    if json_:
        _write_json(results, json_)


@bench.command(name="serving", epilog="Example: fedcomp bench serving --clients 50 --seconds 5")
def bench_serving(
    clients: Annotated[int, typer.Option(min=1, help="At once.")] = 200,
    models: Annotated[int, typer.Option(min=1, help="In the store.")] = 24,
    memory: Annotated[int, typer.Option(min=1, metavar="MIB", help="Of loaded models; fewer fit than there are.")] = 2,
    seconds: Annotated[float, typer.Option(min=1, help="Measured; the warm-up takes as long again.")] = 20.0,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results here, too.")] = None,
) -> None:
    """Latency and memory of a model service, for one client and for many, against calling a model in process."""
    from fedcomp.benchmarks.serving import benchmark_serving, check_serving

    results = benchmark_serving(clients=clients, models=models, memory_megabytes=memory, duration=seconds)
    tables = {
        "serving": [asdict(result) for result in results],
        "bars": [bar._asdict() for bar in check_serving(results)],
    }
    shown = [
        {
            "clients": result.clients,
            "answers": result.answers,
            "errors": result.errors,
            "a second": result.answers_a_second,
            "p50 ms": result.p50_milliseconds,
            "p99 ms": result.p99_milliseconds,
            "p50 / in process": result.p50_milliseconds / result.in_process_p50_milliseconds,
            "MB warm": result.warm_megabytes,
            "MB late": result.late_megabytes,
        }
        for result in results
    ]
    for rows in (shown, tables["bars"]):
        _print_table(rows)
    if json_:
        _write_json(tables, json_)


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of equal keys."""
    if not rows:
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*("-" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
