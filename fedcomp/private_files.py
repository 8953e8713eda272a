"""Files that only their owner may read: private from the moment of creation, and never overwritten by accident."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fedcomp.errors import CredentialError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WRITABLE_BY_OTHERS = 0o022
_MAX_BYTES = 1 << 20  # no key and no certificate comes near it


def private_folder(folder: Path) -> Path:
    """Return a folder for keys; it and its parents are made if need be, with mode 0700.

    Raises:
        UsageError: It is no folder, can not be made, or others may write to it and so replace its keys.
    """
    try:
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            with contextlib.suppress(FileExistsError):
                missing.mkdir(mode=0o700)
        mode = folder.stat().st_mode
    except OSError as error:
        raise UsageError(f"{folder} can not be made: {error.strerror}") from None
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    if mode & _WRITABLE_BY_OTHERS:
        raise UsageError(f"{folder} holds keys, and others may write to it (mode {mode & 0o777:o}): chmod go-w it")
    return folder


def create_private(files: Mapping[Path, bytes]) -> None:
    """Write new files, each with mode 0600: all of them or none, and none over an existing one.

    Args:
        files: Content by path; the folders exist.

    Raises:
        UsageError: A file is there already.
        CredentialError: A file can not be written.
    """
    refuse_existing(files)
    with contextlib.ExitStack() as drafts, contextlib.ExitStack() as undo:
        for path, draft in {path: _draft(path, content, drafts) for path, content in files.items()}.items():
            try:
                os.link(draft, path)  # a rename would replace what another process has written since
            except FileExistsError:
                refuse_existing([path])
                raise
            except OSError as error:
                raise CredentialError(f"{path} can not be written: {error.strerror}") from None
            undo.callback(path.unlink)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
        undo.pop_all()


def replace_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 in place of the old one; a reader, or a crash, finds one of both.

    Raises:
        CredentialError: It can not be written.
    """
    with contextlib.ExitStack() as drafts:
        _draft(path, content, drafts).replace(path)
        _sync_folder(path.parent)


def move_private(path: Path, target: Path) -> None:
    """Rename a file into another folder of the same file system, for good."""
    path.replace(target)
    _sync_folder(target.parent)
    _sync_folder(path.parent)


def read_private(path: Path) -> bytes:
    """Return the content of a key, a certificate or a file beside them.

    Raises:
        CredentialError: It is missing, can not be read, or is far too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CredentialError(f"{path} can not be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise CredentialError(f"{path} has more than {_MAX_BYTES} bytes: it is no key and no certificate")
    return content


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to overwrite.

    Raises:
        UsageError: Some of these are there; it names them.
    """
    if existing := [str(path) for path in paths if os.path.lexists(path)]:
        raise UsageError(f"there already, and never overwritten: {', '.join(existing)}")


def _draft(path: Path, content: bytes, drafts: contextlib.ExitStack) -> Path:
    """Write a file that goes when `drafts` is left, in the same folder under a name that nobody guesses."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # O_EXCL, mode 0600
    except OSError as error:
        raise CredentialError(f"{path} can not be written: {error.strerror}") from None
    draft = Path(name)
    drafts.callback(draft.unlink, missing_ok=True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names; Windows, which has no such call, sees to it by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
