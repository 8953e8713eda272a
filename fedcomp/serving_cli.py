"""The command line of stored models: store, serve, pull."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedcomp.command_line import LogFileOption, LogFormatOption, LogLevelOption  # noqa: TC001 - typer looks at them
from fedcomp.errors import UsageError
from fedcomp.files import read_json
from fedcomp.reporting.logs import LogFormat, LogSettings, configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedcomp.store import Manifest, ModelStore, Version

store = typer.Typer(help="Compressed models under a name, in a folder or at a URL.", no_args_is_help=True)

commands = typer.Typer()
"""Commands beside `store`."""

_CALIBRATION_IMAGES = 512

_Url = Annotated[
    str, typer.Option("--store", metavar="URL", help="A folder, or what fsspec knows: file://, memory://, s3://.")
]
_Name = Annotated[str, typer.Argument(help="The model's name.")]
_Digest = Annotated[
    str, typer.Option(metavar="SHA256", help="One version, by manifest or artifact; default the newest.")
]


@store.callback()
def store_options() -> None:
    """Compressed models under a name, in a folder or at a URL."""


@store.command(epilog="Example: fedcomp store add student.onnx phone --store models --dataset fashion-mnist")
def add(
    model: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A classifier of images, float32 ONNX.")],
    name: _Name,
    url: _Url,
    dataset: Annotated[str, typer.Option(help="Whose held-out training images decide, as the run's key.")],
    data_dir: Annotated[str, typer.Option(help="Where its files are.")] = "",
    validation_size: Annotated[int, typer.Option(min=1, help="As the run's key: held out, labelled.")] = 5000,
    proxy_size: Annotated[int, typer.Option(min=1, help="As the run's key: held out, unlabelled.")] = 4000,
    seed: Annotated[int, typer.Option(help="Of the run: the same images are held out.")] = 0,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Validation accuracy that may be lost.")] = 0.002,
    card: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="The run's card, JSON.")] = None,
) -> None:
    """Compress a model as far as its validation accuracy allows, and make it the newest of its name."""
    from importlib.metadata import version

    from fedcomp.data import hold_out, load_dataset
    from fedcomp.store import LoadedModel, Manifest, Measure, ModelStore, check_name, compress, digest_of

    models, content = ModelStore(url), model.read_bytes()
    notes = read_json(card) if card else {}
    versions = models.versions(check_name(name))
    train, test = load_dataset(dataset, data_dir)
    held_out = hold_out(train, validation_size=validation_size, proxy_size=proxy_size, seed=seed)
    found = compress(
        content,
        Measure(held_out.validation.images, held_out.validation.labels),
        held_out.proxy.images[:_CALIBRATION_IMAGES],
        tolerance=tolerance,
    )
    on_test, face = Measure(test.images, test.labels), LoadedModel(found.content).face
    manifest = Manifest(
        name=name,
        artifact=digest_of(found.artifact),
        artifact_bytes=len(found.artifact),
        weights=digest_of(found.content),
        model_bytes=len(found.content),
        original_bytes=len(content),
        image_shape=face.image_shape,
        num_classes=face.num_classes,
        codec=found.codec,
        accuracy={
            "float_validation": found.float_accuracy,
            "stored_validation": found.accuracy,
            "float_test": on_test.accuracy(content),
            "stored_test": on_test.accuracy(found.content),
        },
        card=notes,
        created=datetime.now(UTC),
        fedcomp=version("fedcomp"),
        parent=versions[-1].digest if versions else None,
    )
    models.put(manifest, found.artifact)
    _print_manifest(manifest)


@store.command(name="list", epilog="Example: fedcomp store list --store models")
def list_(url: _Url) -> None:
    """List models, and the newest version of each."""
    from fedcomp.store import ModelStore

    models = ModelStore(url)
    table = Table("name", "versions", "artifact", "bytes", "times fewer", "accuracy", "created")
    for name in models.names():
        versions = models.versions(name)
        newest = models.manifest(versions[-1])
        accuracy = newest.accuracy.get("stored_test", newest.accuracy.get("stored_validation"))
        table.add_row(
            name,
            str(len(versions)),
            newest.artifact[:12],
            str(newest.artifact_bytes),
            f"{newest.original_bytes / newest.artifact_bytes:.1f}",
            "-" if accuracy is None else f"{accuracy:.2%}",
            f"{newest.created:%Y-%m-%d %H:%M}",
        )
    Console().print(table)


@store.command(epilog="Example: fedcomp store show phone --store models")
def show(name: _Name, url: _Url, digest: _Digest = "") -> None:
    """Print a version's manifest, and the versions that there are."""
    models, version = _version(url, name, digest)
    _print_manifest(models.manifest(version))
    for each in models.versions(name):
        print(f"{datetime.fromtimestamp(each.moment / 1e9, UTC):%Y-%m-%d %H:%M:%S}  {each.digest}")


@store.command(epilog="Example: fedcomp store unpack phone phone.onnx --store models")
def unpack(
    source: Annotated[str, typer.Argument(help="A model's name, or with no --store the file of an artifact.")],
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The ONNX file to write.")],
    url: Annotated[str | None, typer.Option("--store", metavar="URL", help="Where the model is stored.")] = None,
    digest: _Digest = "",
) -> None:
    """Write an artifact as ONNX."""
    from fedcomp.files import asked_to_write, write_atomically
    from fedcomp.store import digest_of, unpack_artifact

    if url:
        models, version = _version(url, source, digest)
        artifact = models.artifact(models.manifest(version).artifact)
    elif Path(source).is_file():
        artifact = Path(source).read_bytes()
        if digest and digest_of(artifact) != digest:
            raise UsageError(f"{source} has the digest {digest_of(artifact)}, expected {digest}")
    else:
        raise UsageError(f"{source!r} is no file: give --store URL for a model's name")
    content = unpack_artifact(artifact)
    with asked_to_write(str(out)):
        write_atomically(out, content)
    print(f"{len(artifact)} bytes -> {len(content)} bytes of ONNX in {out}")


@store.command(epilog="Example: fedcomp store delete phone --store models --digest 3f2a...")
def delete(
    name: _Name, url: _Url, digest: Annotated[str, typer.Option(metavar="SHA256", help="Of manifest or artifact.")]
) -> None:
    """Take one version off its name; `gc` frees its bytes."""
    models, version = _version(url, name, digest)
    models.delete(name, version)
    print(f"deleted {version.digest} of {name}")


@store.command(epilog="Example: fedcomp store gc --store models --keep-last 3")
def gc(
    url: _Url,
    keep_last: Annotated[int, typer.Option(min=1, help="Versions of each name that stay.")],
    grace: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Younger objects stay.")] = 3600.0,
) -> None:
    """Delete old versions, and what no version needs."""
    from fedcomp.store import ModelStore

    collected = ModelStore(url).collect(keep_last, grace_seconds=grace)
    print(f"deleted {collected.versions} versions and {collected.objects} objects")


@commands.command(epilog="Example: fedcomp serve --store models --listen 0.0.0.0:8500 --tls tls")
def serve(
    url: _Url,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where clients come; PORT alone is on loopback.")
    ] = "127.0.0.1:8500",
    tls: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder that `keys init` made: use TLS.")
    ] = None,
    insecure: Annotated[bool, typer.Option(help="No TLS beyond loopback; anybody can read and change it.")] = False,
    memory: Annotated[int, typer.Option(min=1, metavar="MIB", help="Of loaded models.")] = 256,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that predict; default one a core.")] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = "info",
    log_file: LogFileOption = None,
) -> None:
    """Serve a store's models over gRPC until stopped: list, download, predict, health, reflection."""
    from fedcomp.address import Address
    from fedcomp.store import ModelStore

    _need_grpc()
    from fedcomp.serving import ServingLimits
    from fedcomp.serving import serve as serve_models

    configure_logging(LogSettings(log_format, log_level, log_file))
    chosen = {} if workers is None else {"workers": workers}
    limits = ServingLimits(memory_bytes=memory << 20, **chosen)
    serve_models(ModelStore(url), Address.parse(listen), limits, tls=tls, insecure=insecure)


@commands.command(epilog="Example: fedcomp pull models.example.org:8500 phone --out models --tls ca.crt")
def pull(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The service's address.")],
    name: _Name,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for NAME.fcm and NAME.json.")],
    tls: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Certificate of the authority (ca.crt): use TLS.")
    ] = None,
    insecure: Annotated[bool, typer.Option(help="No TLS to another machine; loopback needs no --tls.")] = False,
    digest: _Digest = "",
    tries: Annotated[int, typer.Option(min=1, help="In a row that bring next to nothing.")] = 8,
) -> None:
    """Fetch the newest model, if it is another one than is held; a broken download goes on where it was."""
    from fedcomp.address import Address

    _need_grpc()
    from fedcomp.serving import ModelClient
    from fedcomp.serving import pull as pull_model

    address = Address.parse(server)
    address.require_tls(has_tls=tls is not None, insecure=insecure, hint="--tls CA.crt")
    with ModelClient(address, tls) as client:
        pulled = pull_model(client, name, out, digest=digest, tries=tries)
    what = f"received {pulled.received_bytes} bytes" if pulled.received_bytes else "is held already"
    print(f"{pulled.path}: artifact {pulled.manifest.artifact[:12]} of {pulled.manifest.artifact_bytes} bytes, {what}")


def _need_grpc() -> None:
    try:
        import grpc  # noqa: F401
        import grpc_health  # noqa: F401
        import grpc_reflection  # noqa: F401
    except ImportError:
        raise UsageError("serving needs gRPC: pip install 'fedcomp[serve]'") from None


def _version(url: str, name: str, digest: str) -> tuple[ModelStore, Version]:
    from fedcomp.store import ModelStore

    models = ModelStore(url)
    return models, models.resolve(name, digest or None)


def _print_manifest(manifest: Manifest) -> None:
    rows: Iterable[tuple[str, str]] = (
        ("name", manifest.name),
        ("artifact", manifest.artifact),
        ("bytes", str(manifest.artifact_bytes)),
        ("bytes of the ONNX file", str(manifest.original_bytes)),
        ("times fewer", f"{manifest.original_bytes / manifest.artifact_bytes:.2f}"),
        ("codec", manifest.codec),
        ("images", " x ".join(map(str, manifest.image_shape))),
        ("classes", str(manifest.num_classes)),
        *((f"accuracy, {what.replace('_', ' ')}", f"{value:.2%}") for what, value in manifest.accuracy.items()),
    )
    for what, value in rows:
        print(f"{what:<28}{value}")
