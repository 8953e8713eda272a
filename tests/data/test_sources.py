"""Data sets by name."""

import numpy as np
import pytest

from fedcomp.data import ImageDataset, load_dataset
from fedcomp.errors import ConfigError, DataError


def test_digits_are_inside():
    train, test = load_dataset("digits")
    assert (len(train), len(test)) == (1437, 360)
    assert train.image_shape == (1, 8, 8)
    assert train.images.max() == 255
    assert not train.flip_ok
    assert np.bincount(test.labels).min() >= 34


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 1)])
def test_npz(tmp_path, shape):
    path = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    np.savez(path, x_train=images, y_train=np.array([0, 1, 2, 1]), x_test=images[:1], y_test=np.array([[2]]))
    train, test = load_dataset("npz", str(path))
    assert train.image_shape == (shape[2] if len(shape) == 3 else 1, 6, 5)
    assert (train.num_classes, test.labels.tolist()) == (3, [2])


def test_npz_that_is_none_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    for content in (b"", b"PK\x03\x04 broken", b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="x_train"):
            load_dataset("npz", str(path))
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(DataError, match="x_train"):
        load_dataset("npz", str(path))
    np.savez(path, x_train=np.array([None]), y_train=0, x_test=0, y_test=0)
    with pytest.raises(DataError):
        load_dataset("npz", str(path))


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="digits, mnist, fashion-mnist, npz or hf:"):
        load_dataset("imagenet")


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": np.zeros((2, 1, 3, 3), np.float32)},
        {"images": np.zeros((2, 3, 3), np.uint8)},
        {"labels": np.array([0])},
        {"labels": np.array([0, 3])},
        {"labels": np.array([0, -2])},
    ],
)
def test_a_dataset_checks_itself(wrong):
    right = {"images": np.zeros((2, 1, 3, 3), np.uint8), "labels": np.array([0, -1])}
    ImageDataset("fine", **right, num_classes=3)
    with pytest.raises(DataError, match="odd"):
        ImageDataset("odd", **(right | wrong), num_classes=3)
