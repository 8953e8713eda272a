"""Data sets by name, each as (train, test)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fedcomp.data.arrays import count_classes, to_class_labels, to_nchw
from fedcomp.data.dataset import ImageDataset
from fedcomp.data.idx import find_idx, read_idx
from fedcomp.data.image_folder import shape_text, to_pixels
from fedcomp.data.npz import read_npz
from fedcomp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

TrainTest: TypeAlias = tuple[ImageDataset, ImageDataset]

_HUB_PREFIX = "hf:"
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_SURELY_CLASSES = 1000
"""Labels above this and above the number of images are prices or ids: a model would have an output for each."""


def load_dataset(name: str, data_dir: str = "") -> TrainTest:
    """Load a data set.

    Args:
        name: ``digits`` (inside scikit-learn), ``mnist`` or ``fashion-mnist`` (IDX files), ``npz`` (one file with
            x_train, y_train, x_test, y_test) or ``hf:OWNER/NAME`` (Hugging Face, needs a network or its cache).
        data_dir: Where the files are: a folder, or the .npz file. Empty looks in the usual places.

    Raises:
        ConfigError: No data set has this name, or it needs another `data_dir`.
        DataError: It could not be read; says how to get it.
    """
    train, test = _load(name, data_dir)
    if train.image_shape != test.image_shape:
        shapes = " and ".join(shape_text(part.image_shape) for part in (train, test))
        raise DataError(f"{train.name}: training and test images are {shapes}, expected one shape")
    return train, test


def _load(name: str, data_dir: str) -> TrainTest:
    if name.startswith(_HUB_PREFIX):
        return _load_hub(name.removeprefix(_HUB_PREFIX))
    loaders: dict[str, Callable[[str], TrainTest]] = {
        "digits": _load_digits,
        "mnist": partial(_load_idx, "mnist", False),
        "fashion-mnist": partial(_load_idx, "fashion-mnist", True),
        "npz": _load_npz,
    }
    if name not in loaders:
        raise ConfigError(f"dataset is {name!r}, expected one of {', '.join(loaders)} or hf:OWNER/NAME")
    return loaders[name](data_dir)


def _load_digits(data_dir: str) -> TrainTest:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    digits = ImageDataset("digits", images, labels.astype(np.int64), num_classes=10)
    # A fixed split: the test set is the same whatever the run's seed.
    train, test = train_test_split(np.arange(len(digits)), test_size=0.2, stratify=labels, random_state=0)
    return digits.take(np.sort(train)), digits.take(np.sort(test))


def _load_idx(name: str, flip_ok: bool, data_dir: str) -> TrainTest:
    folders = [Path(data_dir)] if data_dir else [Path("data") / name, Path("/usr/share/datasets") / name]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise DataError(
            f"no folder {' or '.join(map(str, folders))}: put the four IDX files of {name} there "
            f"(`make data-fashion`, or Debian's package dataset-fashion-mnist), or set dataset to a Hugging Face name "
            f"as in hf:zalando-datasets/fashion_mnist"
        )

    def read(part: str) -> ImageDataset:
        images = read_idx(find_idx(folder, f"{part}-images-idx3-ubyte"), num_dims=3)
        labels = read_idx(find_idx(folder, f"{part}-labels-idx1-ubyte"), num_dims=1)
        return ImageDataset(name, images[:, None], labels.astype(np.int64), num_classes=10, flip_ok=flip_ok)

    return read("train"), read("t10k")


def _load_npz(data_dir: str) -> TrainTest:
    if not data_dir or Path(data_dir).is_dir():
        found = f"{data_dir} is a folder" if data_dir else "there is none"
        raise ConfigError(f"dataset npz needs data-dir (a proxy-dataset proxy-dir), a file .npz: {found}")
    path = data_dir
    arrays = read_npz(path, _NPZ_KEYS)
    if missing := [key for key in _NPZ_KEYS if key not in arrays]:
        raise DataError(f"{path} has no {', '.join(missing)}, expected {', '.join(_NPZ_KEYS)}")
    labels = {kind: to_class_labels(path, f"y_{kind}", arrays[f"y_{kind}"]) for kind in ("train", "test")}
    num_classes = max(count_classes(values) for values in labels.values())
    if num_classes > max(_SURELY_CLASSES, len(labels["train"])):
        raise DataError(
            f"{path}: labels go up to {num_classes - 1:,} for {len(labels['train']):,} training images, "
            "expected classes numbered from 0"
        )
    train, test = (
        ImageDataset("npz", to_nchw(arrays[f"x_{kind}"]), values, num_classes) for kind, values in labels.items()
    )
    return train, test


def _load_hub(name: str) -> TrainTest:
    try:
        import datasets

        splits = datasets.load_dataset(name)
    except Exception as error:  # whatever its HTTP client, file readers or a missing package raise
        reason = next(iter(str(error).splitlines()), "no reason given")
        raise DataError(f"hf:{name} can't be loaded: {type(error).__name__}: {reason}") from None
    if missing := {"train", "test"} - set(splits):
        raise DataError(f"hf:{name}: has no split {' and '.join(sorted(missing))}, only {', '.join(splits)}")
    return _from_hub(name, splits["train"]), _from_hub(name, splits["test"])


def _from_hub(name: str, split: Any) -> ImageDataset:
    import datasets

    kinds = {column: type(feature) for column, feature in split.features.items()}
    image = next((column for column, kind in kinds.items() if kind is datasets.Image), None)
    label = next((column for column, kind in kinds.items() if kind is datasets.ClassLabel), None)
    if image is None or label is None:
        raise DataError(f"hf:{name}: has columns {list(kinds)}, expected one of images and one of class labels")
    try:
        pictures = [to_pixels(picture) for picture in split[image]]
    except ValueError as error:
        raise DataError(f"hf:{name}: {error}") from None
    if len(shapes := {picture.shape for picture in pictures}) != 1:
        raise DataError(f"hf:{name}: has images of {len(shapes)} different shapes, expected one")
    images = to_nchw(np.stack(pictures))
    labels = to_class_labels(f"hf:{name}", label, np.asarray(split[label]))
    return ImageDataset(name, images, labels, split.features[label].num_classes)
