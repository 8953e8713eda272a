"""Runs side by side on one self-contained page: outcome, curves, what was refused, how they were configured."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fedcomp.config import PATH_KEYS
from fedcomp.errors import DataError, UsageError
from fedcomp.files import read_json, write_atomically
from fedcomp.reporting.curves import draw_curves
from fedcomp.reporting.formatting import format_bytes, format_share
from fedcomp.reporting.history import RunHistory
from fedcomp.reporting.table import comparison_rows
from fedcomp.run_files import CARD_FILE, CONFIG_FILE, STUDENT_FOLDER, SUMMARY_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_CARD = f"{STUDENT_FOLDER}/{CARD_FILE}"
_FORM_COLUMNS = {"num_bytes": format_bytes, "accuracy": format_share}
"""What is shown of each form of a student, by its key in the card."""
_REFUSED = "rejected_"
_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """What a page tells of one run.

    Args:
        history: Its rounds.
        summary: Contents of ``summary.json``; empty while it is not finished.
        config: Contents of ``config.toml``, without paths, which are of the machine that made them; empty where there
            is none.
        student: Contents of the student's ``card.json``; empty without one.
    """

    history: RunHistory
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    student: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> ReportedRun:
        """Read a run's folder.

        Raises:
            UsageError: It is no run's folder.
            DataError: It has no rounds, or a file is damaged.
        """
        try:
            config = tomllib.loads(_read(folder / CONFIG_FILE))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{folder} is no run's folder, or a damaged one: {error}") from None
        summary, student = (_read_object(folder / name) for name in (SUMMARY_FILE, _CARD))
        _check_forms(folder / _CARD, student.get("variants", {}))
        config = {key: value for key, value in config.items() if key not in PATH_KEYS}
        return cls(RunHistory.read(folder), summary, config, student)

    @property
    def config_text(self) -> str:
        """The configuration as TOML."""
        return tomli_w.dumps(self.config)

    @property
    def refused(self) -> dict[str, int]:
        """Updates that were refused, by reason, the most frequent first."""
        counts = Counter[str]()
        for row in self.history.rows:
            counts.update({k.removeprefix(_REFUSED): n for k, n in row.items() if k.startswith(_REFUSED)})
        return dict(counts.most_common())

    @property
    def complaints(self) -> list[str]:
        """What went wrong with the first clients."""
        told = [f"round {row['round']}: {text}" for row in self.history.rows for text in row.get("complaints", [])]
        return told[:_MOST_COMPLAINTS]

    @property
    def student_forms(self) -> list[tuple[str, ...]]:
        """Name, bytes and accuracy of each form of an exported student, and of its teacher; a dash if not said."""
        forms = self.student.get("variants", {})
        return [
            (name, *(show(form[key]) if key in form else "-" for key, show in _FORM_COLUMNS.items()))
            for name, form in forms.items()
        ]


def write_page(folders: Sequence[Path], out: Path) -> None:
    """Write one HTML file about some runs, finished or not; it needs no other file and no network.

    Args:
        folders: Of the runs, one or more.
        out: The file.

    Raises:
        DataError: A folder holds no run, or a damaged one.
        UsageError: Jinja or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise UsageError("a page needs jinja2: pip install 'fedcomp[report]'") from None
    runs = [ReportedRun.read(folder) for folder in folders]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        runs=runs,
        names=[run.history.name for run in runs],
        outcome=comparison_rows([run.summary for run in runs]),
        differences=differing_keys([run.config for run in runs]),
        curves=_curves([run.history for run in runs]),
    )
    write_atomically(out, page.encode())


def differing_keys(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return each key in which configurations differ, and its value in each; a dash where it is not said."""
    keys = sorted({key for config in configs for key in config})
    values = {key: [str(config.get(key, "-")) for config in configs] for key in keys}
    return [(key, found) for key, found in values.items() if len(set(found)) > 1]


def _curves(histories: Sequence[RunHistory]) -> str:
    """Draw the runs as an SVG element; empty if no accuracy was measured."""
    if not any(accuracy is not None for history in histories for accuracy in history.accuracies()):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "curves.svg"
        draw_curves(histories, picture)
        drawn = picture.read_text(encoding="utf-8")
    return drawn[drawn.index("<svg") :]


def _check_forms(path: Path, forms: object) -> None:
    """Raise `DataError` unless what a card says of a student's forms can be shown."""
    if not isinstance(forms, dict):
        raise DataError(f"{path}: variants is {forms!r}, expected an object")
    for name, form in forms.items():
        if not isinstance(form, dict):
            raise DataError(f"{path}: variants.{name} is {form!r}, expected an object")
        for key in _FORM_COLUMNS:
            if key in form and not (isinstance(form[key], int | float) and 0 <= form[key] <= sys.maxsize):
                raise DataError(f"{path}: variants.{name}.{key} is {form[key]!r}, expected a number of 0 or more")


def _read_object(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from None
