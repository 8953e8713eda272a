"""Data sets by name."""

import contextlib
import re

import datasets
import numpy as np
import pytest
from PIL import Image

from fedcomp.data import ImageDataset, load_dataset
from fedcomp.errors import ConfigError, DataError


def test_digits_are_inside():
    train, test = load_dataset("digits")
    assert (len(train), len(test)) == (1437, 360)
    assert train.image_shape == (1, 8, 8)
    assert train.images.max() == 255
    assert not train.flip_ok
    assert np.bincount(test.labels).min() >= 34


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 1), (6, 5, 4), (6, 5, 2)])
def test_npz(tmp_path, shape):
    path = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    np.savez(path, x_train=images, y_train=np.array([0, 1, 2, 1]), x_test=images[:1], y_test=np.array([[2]]))
    train, test = load_dataset("npz", str(path))
    assert train.image_shape == (shape[2] if len(shape) == 3 else 1, 6, 5)
    assert (train.num_classes, test.labels.tolist()) == (3, [2])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_read_or_refused_and_nothing_else(tmp_path, save):
    path = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)
    save(path, x_train=images, y_train=np.arange(4), x_test=images, y_test=np.arange(4))
    content = path.read_bytes()
    for position in range(0, len(content), 2):
        path.write_bytes(content[:position] + bytes((content[position] ^ 255,)) + content[position + 1 :])
        with contextlib.suppress(DataError):
            load_dataset("npz", str(path))


def test_training_and_test_images_of_two_shapes_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    shapes = {"x_train": (4, 6, 5), "x_test": (4, 6, 5, 3)}
    np.savez(path, y_train=np.arange(4), y_test=np.arange(4), **{k: np.zeros(s, np.uint8) for k, s in shapes.items()})
    with pytest.raises(DataError, match="training and test images are 1x6x5 and 3x6x5, expected one shape"):
        load_dataset("npz", str(path))


@pytest.mark.parametrize("labels", [[], ["a"], [0.5], [np.nan], [-1], np.array([0, 2**64 - 1], np.uint64)])
def test_npz_labels_that_are_no_classes_are_refused(tmp_path, labels):
    path, images = tmp_path / "data.npz", np.zeros((len(labels), 6, 5), np.uint8)
    np.savez(path, x_train=images, y_train=np.array(labels), x_test=images, y_test=np.zeros(len(labels), int))
    with pytest.raises(DataError, match=r"data\.npz: y_train"):
        load_dataset("npz", str(path))


def test_npz_of_numbers_to_predict_is_refused(tmp_path):
    path, images = tmp_path / "prices.npz", np.zeros((3, 6, 5), np.uint8)
    prices = np.array([120_000, 85_500, 499_999])
    np.savez(path, x_train=images, y_train=prices, x_test=images, y_test=prices)
    with pytest.raises(DataError, match=r"labels go up to 499,999 for 3 training images, expected classes"):
        load_dataset("npz", str(path))


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


@pytest.mark.parametrize(("folder", "found"), [("", "there is none"), (".", ". is a folder")])
def test_npz_without_its_file_says_what_is_needed(folder, found):
    with pytest.raises(ConfigError, match=rf"dataset npz needs data-dir .*, a file \.npz: {re.escape(found)}"):
        load_dataset("npz", folder)


def hub_split(mode, count=4):
    size = (6, 5, 3) if mode == "RGB" else (6, 5)
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"picture": [np.full(size, i, np.uint8) for i in range(count)], "kind": [i % 3 for i in range(count)]}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_hub_columns_are_found_by_their_type(monkeypatch, mode, channels):
    splits = datasets.DatasetDict(train=hub_split(mode), test=hub_split(mode, 2))
    monkeypatch.setattr(datasets, "load_dataset", lambda name: splits if name == "owner/name" else None)
    train, test = load_dataset("hf:owner/name")
    assert (train.image_shape, train.num_classes, train.labels.tolist()) == ((channels, 6, 5), 3, [0, 1, 2, 0])
    assert test.images[:, 0, 0, 0].tolist() == [0, 1]


def one_picture(picture):
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])})
    split = datasets.Dataset.from_dict({"picture": [picture], "kind": [0]}, features=features)
    return datasets.DatasetDict(train=split, test=split)


@pytest.mark.parametrize(("mode", "channels"), [("P", 3), ("RGBA", 3), ("LA", 1), ("1", 1)])
def test_hub_images_are_grey_or_in_colour_however_they_are_stored(monkeypatch, mode, channels):
    picture = Image.new("RGB", (5, 6), (255, 0, 0)).convert(mode)
    monkeypatch.setattr(datasets, "load_dataset", lambda _: one_picture(picture))
    train, _ = load_dataset("hf:owner/name")
    assert train.image_shape == (channels, 6, 5)
    if channels == 3:
        assert train.images[0, :, 0, 0].tolist() == [255, 0, 0]


def test_hub_images_of_sixteen_bits_are_refused(monkeypatch):
    picture = Image.fromarray(np.full((6, 5), 40000, np.uint16))
    monkeypatch.setattr(datasets, "load_dataset", lambda _: one_picture(picture))
    with pytest.raises(DataError, match="hf:owner/name: pixels of mode I;16, expected 8-bit"):
        load_dataset("hf:owner/name")


def test_hub_sets_that_do_not_fit_are_refused(monkeypatch):
    wrong = [
        (datasets.DatasetDict(train=hub_split("L")), "no split test, only train"),
        (datasets.DatasetDict(train=hub_split("L").remove_columns("kind"), test=hub_split("L")), "expected one of"),
    ]
    for splits, message in wrong:
        monkeypatch.setattr(datasets, "load_dataset", lambda name, splits=splits: splits)
        with pytest.raises(DataError, match=message):
            load_dataset("hf:owner/name")


@pytest.mark.parametrize("failure", [OSError(""), RuntimeError("first\nsecond"), ConnectionError("no network")])
def test_a_hub_that_fails_is_one_line(monkeypatch, failure):
    def fail(name):
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=f"hf:owner/name can't be loaded: {type(failure).__name__}") as caught:
        load_dataset("hf:owner/name")
    assert "\n" not in str(caught.value)


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
        {"labels": np.array([0.0, 1.0])},
        {"images": np.zeros((2, 1, 0, 3), np.uint8)},
        {"labels": np.array([0, 0]), "num_classes": 1},
    ],
)
def test_a_dataset_checks_itself(wrong):
    right = {"images": np.zeros((2, 1, 3, 3), np.uint8), "labels": np.array([0, -1]), "num_classes": 3}
    ImageDataset("fine", **right)
    with pytest.raises(DataError, match="odd"):
        ImageDataset("odd", **(right | wrong))
