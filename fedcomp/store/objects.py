"""Bytes under the name of their own SHA-256, in a folder or at any URL that fsspec knows."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING

from fedcomp.errors import ArtifactError, StoreError, UnknownModel, UsageError
from fedcomp.store.names import check_digest, digest_of, is_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from fsspec import AbstractFileSystem


class ObjectFolder:
    """Files that are written whole, and objects among them that are read only as what their name says.

    Args:
        url: A folder, or a URL of fsspec: ``file://``, ``memory://``, ``s3://`` where s3fs is installed, and others.

    Raises:
        UsageError: The URL's file system is unknown or not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._system, self._root = _open_url(url)
        self._root = self._root.rstrip("/")

    def put(self, content: bytes) -> str:
        """Keep bytes and return their digest; the same bytes are kept once, and are as if they were new.

        Raises:
            StoreError: They can not be written.
        """
        digest = digest_of(content)
        self.write(_place(digest), content)
        return digest

    def get(self, digest: str, max_bytes: int) -> bytes:
        """Return the bytes of a digest, verified.

        Raises:
            UnknownModel: There are none.
            ArtifactError: They are more than `max_bytes`, or are not what the digest says.
            StoreError: They can not be read.
        """
        path = self._path(_place(check_digest(digest)))
        with _told(f"object {digest[:12]}"):
            num_bytes = self._system.size(path)
            if num_bytes is None or num_bytes > max_bytes:
                raise ArtifactError(f"object {digest[:12]} has {num_bytes} bytes, at most {max_bytes} are allowed")
            content: bytes = self._system.cat_file(path)
        if digest_of(content) != digest:
            raise ArtifactError(f"object {digest[:12]} is damaged: its {len(content)} bytes have another digest")
        return content

    def digests(self) -> list[str]:
        """Return the digests of all objects, sorted."""
        places = (self.names(f"objects/{shelf}") for shelf in self.names("objects"))
        return sorted(filter(is_digest, (name for names in places for name in names)))

    def written(self, digest: str) -> datetime:
        """Return when an object was last put."""
        with _told(f"object {digest[:12]} of {self.url}"):
            moment: datetime = self._system.modified(self._path(_place(digest)))
            return moment

    def forget(self, digest: str) -> None:
        """Delete an object; nothing happens if it is gone."""
        self.remove(_place(check_digest(digest)))

    def names(self, folder: str) -> list[str]:
        """Return what is in a folder, sorted; nothing if there is no such folder."""
        try:
            with _told(f"{folder} of {self.url}"):
                found = self._system.ls(self._path(folder), detail=False)
        except UnknownModel:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def write(self, place: str, content: bytes) -> None:
        """Write a file so that a reader finds all of it or none; raises `StoreError`."""
        path = self._path(place)
        with _told(f"{place} of {self.url}"):
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            if not self._renames:
                self._system.pipe_file(path, content)  # such a system shows a file when all of it is there
                return
            partial = f"{path}.{uuid.uuid4().hex}.partial"
            try:
                with self._system.open(partial, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                self._system.mv(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._system.rm_file(partial)  # it would keep a full disk full
                raise

    def remove(self, place: str) -> None:
        """Delete a file; nothing happens if it is gone. Raises `StoreError`."""
        with contextlib.suppress(UnknownModel), _told(f"{place} of {self.url}"):
            self._system.rm_file(self._path(place))

    @property
    def _renames(self) -> bool:
        return "file" in self._system.protocol

    def _path(self, place: str) -> str:
        return f"{self._root}/{place}"


def _place(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def _open_url(url: str) -> tuple[AbstractFileSystem, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UsageError("a model store needs fsspec: pip install 'fedcomp[serve]'") from None
    try:
        system, root = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UsageError(f"store {url!r} can not be opened: {error}") from None
    return system, root


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn a file system's errors into ours."""
    try:
        yield
    except FileNotFoundError:
        raise UnknownModel(f"there is no {what}") from None
    except OSError as error:
        raise StoreError(f"{what} can not be read or written: {error}") from None
