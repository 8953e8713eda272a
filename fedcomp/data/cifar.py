"""The batches of CIFAR-10 and CIFAR-100, binary and pickled: records of a label or two and 3 x 32 x 32 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.data.arrays import to_class_labels
from fedcomp.data.byte_pickle import read_byte_pickle
from fedcomp.data.dataset import MAX_IMAGE_BYTES, ImageDataset
from fedcomp.data.idx import map_bytes
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fedcomp.types import NDArray

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_BINARY_LABELS = {10: 1, 100: 2}
_PICKLED_LABELS = {b"labels": 10, b"fine_labels": 100}


def read_cifar_binary(name: str, paths: Sequence[Path], num_classes: int) -> ImageDataset:
    """Read batches of the binary version; a single one is mapped, so that only what is used is read.

    Args:
        name: For messages.
        paths: The batches, one or more.
        num_classes: 10, or 100: there a record begins with its coarse label, which is passed over.

    Raises:
        DataError: A file is missing, or is no whole number of records.
    """
    return _join(name, ((*_read_records(path, _BINARY_LABELS[num_classes]), num_classes) for path in paths))


def read_cifar_pickles(name: str, paths: Sequence[Path]) -> ImageDataset:
    """Read batches of the Python version, without running what they say (`read_byte_pickle`).

    Args:
        name: For messages.
        paths: The batches, one or more, all of CIFAR-10 or all of CIFAR-100.

    Raises:
        DataError: A file is missing, or anything else than such a batch.
    """
    return _join(name, map(_read_pickle, paths))


def _read_records(path: Path, label_bytes: int) -> tuple[NDArray, NDArray]:
    try:
        content = map_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: {error}") from None
    if not content.size or content.size % (label_bytes + _PIXELS):
        raise DataError(f"{path}: holds {content.size} bytes, expected records of {label_bytes + _PIXELS}")
    records = content.reshape(-1, label_bytes + _PIXELS)
    return records[:, label_bytes:], to_class_labels(path, "labels", records[:, label_bytes - 1])


def _read_pickle(path: Path) -> tuple[NDArray, NDArray, int]:
    batch = read_byte_pickle(path)
    key = next((key for key in _PICKLED_LABELS if key in batch), None)
    pixels = batch.get(b"data")
    if key is None or not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise DataError(f"{path}: has {sorted(batch)[:9]}, expected data of rows of {_PIXELS} bytes, and their labels")
    labels = batch[key]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise DataError(f"{path}: its labels are no list of integers from 0")
    return pixels, to_class_labels(path, "labels", np.array(labels, np.int64)), _PICKLED_LABELS[key]


def _join(name: str, batches: Iterable[tuple[NDArray, NDArray, int]]) -> ImageDataset:
    pixels, labels, num_classes = zip(*batches, strict=True)
    if len(set(num_classes)) != 1:
        raise DataError(f"{name}: batches of CIFAR-10 and CIFAR-100, expected those of one")
    if (num_bytes := sum(batch.size for batch in pixels)) > MAX_IMAGE_BYTES:
        raise DataError(f"{name}: {num_bytes} bytes of images, more than {MAX_IMAGE_BYTES}")
    rows = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
    return ImageDataset(name, rows.reshape(-1, *_SHAPE), np.concatenate(labels), num_classes[0])
