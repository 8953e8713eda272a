"""Files are read with one clear error."""

import errno
import os

import pytest

from fedcomp.errors import DataError
from fedcomp.files import read_json, write_atomically


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "summary.json: Expecting"), ("[1]", "summary.json is a list, expected an object"), (None, "No such file")],
)
def test_what_is_no_object_is_told_with_its_file(tmp_path, content, message):
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_json(path)


def test_a_full_disk_keeps_the_old_file_and_nothing_of_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    assert path.read_bytes() == b"old"
