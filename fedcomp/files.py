"""Files: written whole or not at all, read with one clear error."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedcomp.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType
    from typing import IO, Any, Self

    from fedcomp.types import Model, NDArray

UNREADABLE = (OSError, SafetensorError, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What reading a safetensors file with notes raises if it is damaged: NumPy lacks some of the format's types, too."""

_ORDER = "fedcomp.order"
_WAITS_AT_ONCE, _MAX_OPEN_FILES = 8, 64


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, or a crash, finds the old file or the new one and nothing between."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # it would keep a full disk full
        raise


@contextlib.contextmanager
def asked_to_write(what: str) -> Iterator[None]:
    """Turn what the system says of a place that the caller named into a `UsageError`.

    Args:
        what: For the message: ``the run's folder runs/a``.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"can't write {what}: {error.strerror}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read an object.

    Raises:
        DataError: There is no such file, it is not JSON, or no object; says which file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is a {type(content).__name__}, expected an object")
    return content


def write_json(path: Path, content: object) -> None:
    """Write JSON for people and machines, atomically; what is not finite is null."""
    write_atomically(path, to_json(content).encode())


def to_json(content: object) -> str:
    """Return JSON for people and machines; what is not finite is null: JSON has no word for it."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Return what JSON can say: lists and objects are looked through, numbers that are not finite are None."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process alone, unless another one has.

    The kernel unlocks it when it is closed or the process ends, however that happens.
    """
    import fcntl  # not on Windows, where all else of this module works

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pack_tensors(tensors: Model) -> bytes:
    """Serialize tensors as safetensors, with their order: the format itself has none, and a model's spec needs it."""
    return save(dict(tensors), metadata={_ORDER: json.dumps(list(tensors))})


def read_tensors(path: Path) -> dict[str, NDArray]:
    """Read a safetensors file, in the order that `pack_tensors` noted, or else by name.

    Raises:
        DataError: The file is damaged, or none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = json.loads((file.metadata() or {}).get(_ORDER, "null"))
            if names is None or sorted(names) != sorted(file.keys()):
                names = sorted(file.keys())
            return {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise DataError(f"{path}: {error}") from None
    except UNREADABLE as error:
        raise DataError(f"{path} is no safetensors file, or a damaged one: {error}") from None


class FileWriter:
    """Writes files, and waits for the disk once for several: one after the other takes seven times as long.

    At the end of the context all of them are on the disk.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WAITS_AT_ONCE, thread_name_prefix="fedcomp-sync")
        self._waits: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._pool:
            while self._waits:
                self._waits.popleft().result()

    def write(self, path: Path, content: bytes) -> None:
        """Write one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
        file.write(content)
        self._waits.append(self._pool.submit(_sync_and_close, file))
        if len(self._waits) > _MAX_OPEN_FILES:
            self._waits.popleft().result()


def _sync_and_close(file: IO[bytes]) -> None:
    with file:
        file.flush()
        os.fsync(file.fileno())
