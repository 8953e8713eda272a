"""A client's own images, from whatever it has: IDX files, an .npz, CIFAR batches or folders of images.

::

    train-images-idx3-ubyte[.gz]  train-labels-idx1-ubyte[.gz]    any name before -images and -labels
    data.npz                                                      x and y, or x_train and y_train; x_unlabelled
    data_batch_1.bin ...  |  train.bin                            CIFAR-10 | CIFAR-100, binary
    data_batch_1 ...      |  train                                the same, as Python pickled it
    cat/0001.png  dog/0001.jpg  [classes.txt]                     a folder a class

Of a training and a test part the training part is read. Beside any of these, or alone, a folder ``unlabelled`` holds
images without labels.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from fedcomp.data.arrays import count_classes, to_class_labels, to_nchw
from fedcomp.data.cifar import read_cifar_binary, read_cifar_pickles
from fedcomp.data.dataset import UNLABELLED, ImageDataset
from fedcomp.data.idx import read_idx
from fedcomp.data.image_folder import image_files, read_class_folders, read_class_names, read_images, shape_text
from fedcomp.data.npz import read_npz
from fedcomp.data.splits import ClientData
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fedcomp.types import NDArray

    T = TypeVar("T")

_UNLABELLED_FOLDER, _CLASS_FILE = "unlabelled", "classes.txt"
_EXPECTED = (
    "IDX files NAME-images-idx3-ubyte[.gz] and NAME-labels-idx1-ubyte[.gz], one .npz with x and y, CIFAR batches, "
    f"folders CLASS/IMAGE.png or .jpg, or a folder {_UNLABELLED_FOLDER} of images"
)
_IDX = re.compile(r"(?P<name>.+)-(?P<what>images-idx3|labels-idx1)-ubyte(\.gz)?")
_CIFAR = re.compile(r"(?P<part>data_batch|test_batch|train|test)(_\d+)?(?P<binary>\.bin)?")
_CIFAR_10 = ("data_batch", "test_batch")
_TEST_PARTS = ("t10k", "test", "test_batch")
_NPZ_PAIRS = (["x", "y"], ["x_train", "y_train"])


class _Images(NamedTuple):
    """What a client has; None for what it has not. Unlabelled images are (N, C, H, W)."""

    labelled: ImageDataset | None = None
    unlabelled: NDArray | None = None


class _Kind(NamedTuple):
    """One way to store images.

    Args:
        name: For messages.
        is_of: Whether a path is of this kind.
        read: Reads all paths of this kind; the text says where from, for messages.
    """

    name: str
    is_of: Callable[[Path], bool]
    read: Callable[[str, Sequence[Path]], _Images]


def load_local(path: Path, *, flip_ok: bool = False) -> ClientData:
    """Load a client's own images; which kind of files they are is seen from their names.

    Args:
        path: A folder, or one file.
        flip_ok: Whether a mirrored image keeps its label.

    Returns:
        Images with labels and without, of one shape; either may be none. The truth about those without is not known:
        all of `hidden_labels` are `UNLABELLED`. Without class names the number of classes is a guess, the least that
        the labels fit in. A plain IDX file or a single binary batch is mapped, not read.

    Raises:
        DataError: There is nothing, more than one kind, or something damaged; says what was found and expected.
    """
    images = _read_files(path)
    folder = path / _UNLABELLED_FOLDER
    if folder.is_dir():
        if images.unlabelled is not None:
            raise DataError(f"{path} has both x_unlabelled and a folder {_UNLABELLED_FOLDER}, expected one of them")
        images = images._replace(unlabelled=read_images(image_files(folder)))
    return _client_data(str(path), images, flip_ok)


def check_fits(dataset: ImageDataset, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Check that a client's own images are what a run trains on.

    Args:
        dataset: The client's images. If it has class names, their number must be the run's. If not, all labels must be
            below it: a client may have no image of some classes.
        image_shape: The run's channels, height, width.
        num_classes: The run's.

    Raises:
        DataError: They are not; says how they differ.
    """
    too_few = dataset.num_classes < num_classes and bool(dataset.class_names)
    if dataset.image_shape == image_shape and dataset.num_classes <= num_classes and not too_few:
        return
    hint = f"; name the classes that have no image here, too: in {_CLASS_FILE}, a line each" if too_few else ""
    raise DataError(
        f"the local images are {shape_text(dataset.image_shape)} in {dataset.num_classes} classes, "
        f"the run trains on {shape_text(image_shape)} in {num_classes}{hint}"
    )


def _read_files(path: Path) -> _Images:
    """Read what is there besides the folder of unlabelled images, which may be all there is."""
    try:
        entries = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError as error:
        raise DataError(f"{path}: {error}") from None
    found = [(kind, paths) for kind in _KINDS if (paths := [entry for entry in entries if kind.is_of(entry)])]
    if len(found) > 1:
        raise DataError(f"{path} has {' and '.join(kind.name for kind, _ in found)}, expected one of these kinds")
    if not found and not (path / _UNLABELLED_FOLDER).is_dir():
        raise DataError(f"{path} {_describe(path, entries)}, expected {_EXPECTED}")
    return next((kind.read(str(path), paths) for kind, paths in found), _Images())


def _describe(path: Path, entries: Sequence[Path]) -> str:
    if not path.exists():
        return "does not exist"
    if not path.is_dir():
        return "is a file of no known name"
    names = ", ".join(entry.name for entry in entries[:5])
    return f"has {names}{', ...' if len(entries) > 5 else ''}" if names else "is empty"


def _client_data(where: str, images: _Images, flip_ok: bool) -> ClientData:
    labelled, pixels = images
    if labelled is None:
        labelled = ImageDataset(where, np.asarray(pixels)[:0], np.empty(0, np.int64), num_classes=2)
    if pixels is None:
        pixels = labelled.images[:0]
    labelled = replace(labelled, flip_ok=flip_ok)
    unlabelled = replace(labelled, images=pixels, labels=np.full(len(pixels), UNLABELLED, np.int64))
    if unlabelled.image_shape != labelled.image_shape:
        raise DataError(
            f"{where}: unlabelled images are {shape_text(unlabelled.image_shape)}, "
            f"labelled ones {shape_text(labelled.image_shape)}, expected one shape"
        )
    if not len(labelled) and not len(unlabelled):
        raise DataError(f"{where} has no image")
    return ClientData(labelled, unlabelled, hidden_labels=unlabelled.labels)


def _train_part(where: str, parts: Mapping[str, T]) -> tuple[str, T]:
    """Return the only part, or the only one that is no test part."""
    chosen = [name for name in parts if len(parts) == 1 or name not in _TEST_PARTS]
    if len(chosen) != 1:
        raise DataError(f"{where} has parts {', '.join(parts)}, expected one, or one besides {', '.join(_TEST_PARTS)}")
    return chosen[0], parts[chosen[0]]


def _read_idx(where: str, paths: Sequence[Path]) -> _Images:
    parts: dict[str, dict[str, Path]] = {}
    for path in paths:
        if match := _IDX.fullmatch(path.name):
            parts.setdefault(match["name"], {})[match["what"]] = path
    name, files = _train_part(where, parts)
    if len(files) != 2:
        raise DataError(f"{where} has {' and '.join(files)} of {name}, expected both images-idx3 and labels-idx1")
    pixels, path = read_idx(files["images-idx3"], num_dims=3), files["labels-idx1"]
    labels = to_class_labels(path, "the file", read_idx(path, num_dims=1))
    return _Images(ImageDataset(where, to_nchw(pixels), labels, count_classes(labels)))


def _read_npz(where: str, paths: Sequence[Path]) -> _Images:
    if len(paths) > 1:
        raise DataError(f"{where} has {' and '.join(path.name for path in paths)}, expected one .npz")
    arrays = read_npz(paths[0], ("x", "y", "x_train", "y_train", "x_unlabelled"))
    unlabelled = arrays.pop("x_unlabelled", None)
    pixels = None if unlabelled is None else to_nchw(unlabelled)
    if not arrays and pixels is not None:
        return _Images(None, pixels)
    if list(arrays) not in _NPZ_PAIRS:
        raise DataError(f"{paths[0]} has {' and '.join(arrays) or 'neither'}, expected x and y, or x_train and y_train")
    images, key = next(iter(arrays.values())), list(arrays)[1]
    labels = to_class_labels(paths[0], key, arrays[key])
    return _Images(ImageDataset(where, to_nchw(images), labels, count_classes(labels)), pixels)


def _read_cifar_binary(where: str, paths: Sequence[Path]) -> _Images:
    part, files = _cifar_part(where, paths)
    return _Images(read_cifar_binary(where, files, 10 if part in _CIFAR_10 else 100))


def _read_cifar_pickles(where: str, paths: Sequence[Path]) -> _Images:
    return _Images(read_cifar_pickles(where, _cifar_part(where, paths)[1]))


def _cifar_part(where: str, paths: Sequence[Path]) -> tuple[str, list[Path]]:
    parts: dict[str, list[Path]] = {}
    for path in paths:
        if match := _CIFAR.fullmatch(path.name):
            parts.setdefault(match["part"], []).append(path)
    return _train_part(where, parts)


def _is_cifar(path: Path, *, binary: bool) -> bool:
    match = _CIFAR.fullmatch(path.name)
    return match is not None and bool(match["binary"]) == binary and path.is_file()


def _read_folders(where: str, paths: Sequence[Path]) -> _Images:
    file = paths[0].parent / _CLASS_FILE
    return _Images(read_class_folders(where, paths, read_class_names(file) if file.exists() else ()))


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and path.name != _UNLABELLED_FOLDER and not path.name.startswith(".")


_KINDS = (
    _Kind("IDX files", lambda path: _IDX.fullmatch(path.name) is not None and path.is_file(), _read_idx),
    _Kind("an .npz", lambda path: path.suffix == ".npz" and path.is_file(), _read_npz),
    _Kind("binary CIFAR batches", lambda path: _is_cifar(path, binary=True), _read_cifar_binary),
    _Kind("pickled CIFAR batches", lambda path: _is_cifar(path, binary=False), _read_cifar_pickles),
    _Kind("folders of classes", _is_class_folder, _read_folders),
)
