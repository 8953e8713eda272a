"""Arrays of an .npz: sizes are known before anything is inflated."""

import io
import resource
import zipfile

import numpy as np
import pytest

from fedcomp.data import npz
from fedcomp.data.npz import read_npz
from fedcomp.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)


def npy(array=IMAGES, **header):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array) | header)
    return stream.getvalue() + array.tobytes()


def write(path, content, *, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_only_what_is_wanted_is_read(tmp_path, save):
    save(tmp_path / "a.npz", x=IMAGES, other=np.array([None], object))
    found = read_npz(tmp_path / "a.npz", ("x", "y"))
    assert list(found) == ["x"]
    np.testing.assert_array_equal(found["x"], IMAGES)


def declare(path, size):
    """Let an archive's one member declare another size than it has."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        real = archive.getinfo("x.npy").file_size.to_bytes(4, "little")
    assert content.count(real) == 2
    path.write_bytes(content.replace(real, size.to_bytes(4, "little")))


def test_more_than_the_cap_is_refused_before_it_is_inflated(tmp_path):
    write(tmp_path / "bomb.npz", npy() + bytes(100_000_000))
    declare(tmp_path / "bomb.npz", 3 << 30)
    assert (tmp_path / "bomb.npz").stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="x declare 3221225472 bytes, more than"):
        read_npz(tmp_path / "bomb.npz", ("x",))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_what_is_beyond_the_declared_size_is_not_inflated(tmp_path):
    write(tmp_path / "bomb.npz", npy() + bytes(100_000_000))
    declare(tmp_path / "bomb.npz", len(npy()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="Bad CRC-32"):
        read_npz(tmp_path / "bomb.npz", ("x",))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_the_cap_is_of_all_arrays_that_are_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=IMAGES, y=IMAGES)
    monkeypatch.setattr(npz, "MAX_IMAGE_BYTES", 3 * IMAGES.nbytes)
    with pytest.raises(DataError, match="x, y declare"):
        read_npz(tmp_path / "a.npz", ("x", "y"))
    assert list(read_npz(tmp_path / "a.npz", ("y",))) == ["y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(shape=(1 << 40, 6, 5)), "holds 120 bytes, its shape needs"),
        (npy(shape=(3, 6, 5)), "holds 120 bytes, its shape needs 90"),
        (npy(shape=(-4, -6, 5)), "expected a .npz with x"),
        (npy(descr="|O"), "its shape needs 960"),
        (npy(np.zeros(8, np.uint8), descr="|O", shape=(1,)), "allow_pickle"),
        (b"\x93NUMPY\x03\x00" + npy()[8:], r"is of format \(3, 0\)"),
        (b"", "expected a .npz with x"),
    ],
)
def test_members_that_are_no_plain_arrays_are_refused(tmp_path, content, message):
    write(tmp_path / "a.npz", content)
    with pytest.raises(DataError, match=message):
        read_npz(tmp_path / "a.npz", ("x",))
