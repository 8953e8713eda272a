"""IDX files: what is read, and how a damaged one is refused."""

import gzip
import struct

import numpy as np
import pytest

from fedcomp.data import load_dataset
from fedcomp.data.idx import read_idx
from fedcomp.errors import DataError


def idx_bytes(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_plain_and_gzipped(tmp_path, images, suffix):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(images)) if suffix else idx_bytes(images))
    np.testing.assert_array_equal(read_idx(path, 3), images)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_cut_anywhere_is_refused(tmp_path, images, suffix):
    content = gzip.compress(idx_bytes(images), mtime=0) if suffix else idx_bytes(images)
    path = tmp_path / f"images{suffix}"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="images"):
            read_idx(path, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00\x0d\x03" + bytes(12),
        b"\x00\x00\x08\x01" + bytes(12),
        b"\x00\x00\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31),
        idx_bytes(np.zeros((2, 2, 2), np.uint8)) + b"x",
    ],
)
def test_other_contents_are_refused(tmp_path, content):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(DataError):
        read_idx(tmp_path / "images", 3)


def test_gzip_bomb_is_read_only_as_far_as_declared(tmp_path):
    bomb = idx_bytes(np.zeros((1, 2, 2), np.uint8)) + bytes(50_000_000)
    (tmp_path / "images.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(DataError, match="5 bytes or more, its header declares 4"):
        read_idx(tmp_path / "images.gz", 3)


def test_a_folder_of_four_files_is_a_dataset(tmp_path, images):
    labels = np.arange(5, dtype=np.uint8)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    train, test = load_dataset("fashion-mnist", str(tmp_path))
    assert train.image_shape == (1, 4, 3)
    assert test.labels.tolist() == [0, 1, 2, 3, 4]
    assert train.flip_ok


def test_a_missing_folder_says_how_to_get_the_data(tmp_path):
    with pytest.raises(DataError, match=r"dataset-fashion-mnist"):
        load_dataset("fashion-mnist", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load_dataset("mnist", str(tmp_path))
