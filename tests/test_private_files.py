"""Files of keys: private from the first moment, all or none, never over another."""

import os
import stat

import pytest

from fedcomp.errors import CredentialError, UsageError
from fedcomp.private_files import create_private, private_folder, read_private, replace_private


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask():
    """A careless umask: what is private must be so without its help."""
    old = os.umask(0)
    yield
    os.umask(old)


def test_files_and_folders_are_private_whatever_the_umask(tmp_path, no_umask):
    folder = private_folder(tmp_path / "a" / "keys")
    create_private({folder / "one": b"1", folder / "two": b"2"})
    replace_private(folder / "two", b"3")
    assert mode(folder) == mode(folder.parent) == 0o700
    assert [(path.name, mode(path), path.read_bytes()) for path in sorted(folder.iterdir())] == [
        ("one", 0o600, b"1"),
        ("two", 0o600, b"3"),
    ]


def test_no_file_is_ever_readable_by_others(tmp_path, no_umask, monkeypatch):
    """Not even for a moment: the system makes each with its final mode."""
    seen = []
    make = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, mode=0o777, **kw: seen.append((flags, mode)) or make(path, flags, mode, **kw)
    )
    create_private({tmp_path / "key": b"secret"})
    made = [(flags, mode) for flags, mode in seen if flags & os.O_CREAT]
    assert made
    assert all(flags & os.O_EXCL and mode == 0o600 for flags, mode in made)


def test_one_file_in_the_way_and_none_is_written(tmp_path):
    (tmp_path / "two").write_bytes(b"old")
    with pytest.raises(UsageError, match=r"never overwritten: .*two$"):
        create_private({tmp_path / "one": b"1", tmp_path / "two": b"2"})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("two", b"old")]


def test_a_dangling_link_is_in_the_way_too(tmp_path):
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="never overwritten"):
        create_private({tmp_path / "key": b"1"})
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_comes_between_is_kept_and_the_others_are_taken_back(tmp_path, monkeypatch):
    link = os.link

    def link_and_lose(source, target):
        if target.name == "two":
            target.write_bytes(b"another process")
        link(source, target)

    monkeypatch.setattr(os, "link", link_and_lose)
    with pytest.raises(UsageError, match=r"never overwritten: .*two$"):
        create_private({tmp_path / "one": b"1", tmp_path / "two": b"2", tmp_path / "three": b"3"})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("two", b"another process")]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_private({tmp_path / "one": b"1"})
    with pytest.raises(KeyboardInterrupt):
        replace_private(tmp_path / "two", b"2")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    with pytest.raises(UsageError, match=r"others may write to it \(mode 770\)"):
        private_folder(tmp_path / "open")
    (tmp_path / "file").touch(mode=0o600)
    with pytest.raises(UsageError, match="is not a folder"):
        private_folder(tmp_path / "file")


def test_what_can_not_be_read_or_written_says_why(tmp_path):
    with pytest.raises(CredentialError, match="absent can not be read: No such file"):
        read_private(tmp_path / "absent")
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    with pytest.raises(CredentialError, match="has more than 1048576 bytes"):
        read_private(tmp_path / "large")
    with pytest.raises(CredentialError, match="can not be written: No such file"):
        create_private({tmp_path / "absent" / "key": b""})
