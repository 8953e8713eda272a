"""The checkpoint of a run: everything that decides how it goes on after a round.

``checkpoint/last.safetensors`` holds the global model, the strategy's state, what the server acknowledged to whom and
the global generators; see `snapshot` for the format. A compressed downlink adds who holds which model, and a Grid that
keeps the clients (`StatefulGrid`) its own; both may put files beside it. They are written first: the replacement of
that one file is what makes a checkpoint count.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from fedcomp.errors import CheckpointError
from fedcomp.flower.messages.records import to_array_record, to_model
from fedcomp.flower.state.random_state import keep_random_state, restore_random_state
from fedcomp.flower.state.snapshot import Snapshot, read_snapshot, write_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flwr.app import ArrayRecord
    from flwr.serverapp import Grid

    from fedcomp.flower.server.strategy import CompressedStrategy

_FORMAT = 4
_NOT_AS_EXPECTED = (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError, struct.error)


@runtime_checkable
class StatefulGrid(Protocol):
    """A Grid that keeps what would be lost with this process; a real one's clients keep their states themselves."""

    def save_state(self, folder: Path) -> Snapshot:
        """Return the state; files may be added to the folder, but none may be changed that an earlier one needs."""

    def restore_state(self, folder: Path, snapshot: Snapshot) -> None:
        """Go back to a state; files that belong to none are removed."""


class Checkpoint(NamedTuple):
    """A run after a round.

    Args:
        server_round: The last finished round, from 1.
        arrays: The global model.
        snapshot: All of it.
    """

    server_round: int
    arrays: ArrayRecord
    snapshot: Snapshot


class CheckpointFolder:
    """Where a run's last checkpoint is.

    Args:
        path: The folder; it is made when it is needed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def save(self, server_round: int, arrays: ArrayRecord, strategy: CompressedStrategy, grid: Grid) -> None:
        """Replace the checkpoint; the earlier one holds until the new one is complete.

        Raises:
            CheckpointError: The strategy keeps something that can not be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        model = to_model(arrays)
        parts = {
            "run": Snapshot({"format": _FORMAT, "round": server_round, "tensors": list(model)}, {}),
            "model": Snapshot({}, model),
            "strategy": strategy.save_state(),
            "random": keep_random_state(),
        }
        if strategy.downlink:
            parts["downlink"] = strategy.downlink.save_state(self.path)
        if isinstance(grid, StatefulGrid):
            parts["grid"] = grid.save_state(self.path)
        write_snapshot(self._file, Snapshot.join(parts))

    def last(self) -> Checkpoint | None:
        """Read the checkpoint, None if there is none: then the run has not finished a round.

        Raises:
            CheckpointError: It is damaged, or of another version of fedcomp.
        """
        if not self._file.exists():
            return None
        snapshot = read_snapshot(self._file)
        with self._complete():
            run = snapshot.facts["run"]
            if run["format"] != _FORMAT:
                raise CheckpointError(f"{self._file} has format {run['format']}, expected {_FORMAT}")
            if type(run["round"]) is not int:
                raise CheckpointError(f"{self._file} is of round {run['round']!r}, expected a number")
            tensors = snapshot.part("model").tensors
            return Checkpoint(run["round"], to_array_record({name: tensors[name] for name in run["tensors"]}), snapshot)

    def restore(self, checkpoint: Checkpoint, strategy: CompressedStrategy, grid: Grid) -> None:
        """Bring strategy, clients and generators to where they were.

        Raises:
            CheckpointError: A client's state is damaged, or was kept by another kind of Grid; or something is missing.
        """
        snapshot = checkpoint.snapshot
        if ("grid" in snapshot.facts) != isinstance(grid, StatefulGrid):
            has, wants = ("has", "keeps none") if "grid" in snapshot.facts else ("has no", "keeps them")
            raise CheckpointError(f"{self._file} {has} clients' states, but {type(grid).__name__} {wants}")
        if ("downlink" in snapshot.facts) != bool(strategy.downlink):
            has = "has" if "downlink" in snapshot.facts else "has no"
            raise CheckpointError(f"{self._file} {has} models of clients, but the strategy has another downlink")
        with self._complete():
            strategy.restore_state(snapshot.part("strategy"))
            if strategy.downlink:
                strategy.downlink.restore_state(self.path, snapshot.part("downlink"))
            if isinstance(grid, StatefulGrid):
                grid.restore_state(self.path, snapshot.part("grid"))
            restore_random_state(snapshot.part("random"))

    def remove(self) -> None:
        """Let it go: the run is finished."""
        self._file.unlink(missing_ok=True)  # first, so that what is left after a kill is no checkpoint
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def _complete(self) -> Iterator[None]:
        """Turn what a file with a right checksum raises where it holds something else than a run's state."""
        try:
            yield
        except _NOT_AS_EXPECTED as error:
            found = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{self._file} holds something else than this run's state: {found}") from error

    @property
    def _file(self) -> Path:
        return self.path / "last.safetensors"
