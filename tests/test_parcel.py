"""Parcels come out as they went in."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp import parcel
from fedcomp.parcel import join_parcel, parcel_bytes, read_parcel, split_parcel, write_parcel

PARTS = st.lists(st.binary(max_size=200), max_size=20)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    descriptor = os.open(tmp_path_factory.mktemp("parcel") / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@given(PARTS, st.binary(max_size=20))
def test_in_memory(parts, before):
    joined = join_parcel(parts)
    assert len(joined) == parcel_bytes(parts)
    assert split_parcel(before + joined, len(before)) == parts


@given(st.lists(PARTS, min_size=1, max_size=3))
def test_in_a_file_that_held_something_else(file, contents):
    for parts in contents:
        write_parcel(file, parts)
        assert os.fstat(file).st_size == parcel_bytes(parts)
        assert read_parcel(file) == parts


@pytest.mark.parametrize("most", [1, 3, 7])
def test_in_pieces(file, monkeypatch, most):
    """The kernel may move less than it was asked to."""
    write, read = os.writev, os.pread
    monkeypatch.setattr(parcel, "_MAX_PARTS_A_CALL", most)
    monkeypatch.setattr(parcel, "_MAX_BYTES_A_CALL", most)
    monkeypatch.setattr(os, "writev", lambda file, parts: write(file, [parts[0][:most]]))
    monkeypatch.setattr(os, "pread", lambda file, count, start: read(file, min(count, most), start))
    parts = [b"", b"a", b"bc" * 10, b"", b"def"]
    write_parcel(file, parts)
    assert read_parcel(file) == parts


def test_a_file_that_ends_early(file):
    write_parcel(file, [b"abc", b"defg"])
    os.ftruncate(file, parcel_bytes([b"abc", b"defg"]) - 1)
    with pytest.raises(EOFError, match="expected"):
        read_parcel(file)
