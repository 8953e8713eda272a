"""Many runs, a folder each: done in turn, gone on with if one was broken off, read back as summaries."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcomp.config import RunConfig
from fedcomp.errors import ConfigError
from fedcomp.files import read_json
from fedcomp.run_files import CONFIG_FILE, SUMMARY_FILE
from fedcomp.simulation.experiment import is_finished, resume, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GridOfRuns:
    """Runs of configurations, changed by methods, repeated with seeds.

    Args:
        out: Folder of all; a run's is ``out/CONFIG/METHOD/SEED``.
        configs: Folder of the configuration files.
        prefix: What their names begin with, beside CONFIG.
    """

    out: Path
    configs: Path
    prefix: str = ""

    def folder(self, config: str, method: str, seed: int) -> Path:
        """Return the folder of one run."""
        return self.out / config / method / str(seed)

    def run(
        self, config: str, method: str, seed: int, overrides: Iterable[str], *, num_workers: int | None = None
    ) -> dict[str, Any]:
        """Do a run, or go on with it; of a finished one, only return the outcome.

        One that has begun keeps its configuration; that it was asked for with another one is a warning.

        Args:
            config: Name of a file in `configs`, without prefix and ending.
            method: Name of what `overrides` are.
            seed: Of the run.
            overrides: ``key=value``.
            num_workers: See `LocalGrid`.
        """
        folder = self.folder(config, method, seed)
        own = [f"seed={seed}", f"name={method}", f"out-dir={folder}"]
        asked = self.config(config, [*own, *overrides])
        if not (folder / CONFIG_FILE).is_file():
            return simulate(asked, num_workers=num_workers)
        try:
            asked.as_begun()
        except ConfigError as error:
            _log.warning("%s", error)
        return resume(folder, num_workers=num_workers)

    def config(self, config: str, overrides: Iterable[str]) -> RunConfig:
        """Return a configuration with changes."""
        return RunConfig.from_toml(self.configs / f"{self.prefix}{config}.toml", [*overrides])

    def finished(self, config: str, method: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield folder and summary of each finished run, by seed."""
        for folder in sorted((self.out / config / method).glob("*")):
            if is_finished(folder):
                yield folder, read_json(folder / SUMMARY_FILE)
