"""Where availability comes from: a trace of real clients, or a model of people's nights."""

from __future__ import annotations

import csv
import math
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import ConfigError, UsageError
from fedcomp.network.availability import Availability
from fedcomp.seeding import derive_rng

if TYPE_CHECKING:
    from collections.abc import Iterator

DIURNAL = "diurnal"
_HEADER = ["client", "start", "end"]
_DEFAULT_HOURS = 8.0
_BEDTIME_SPREAD_HOURS = 3.0

Window = tuple[int, float, float]


def make_availability(text: str, *, num_clients: int, period: float, seed: int) -> Availability | None:
    """Make what a configuration asks for.

    Args:
        text: Empty for always, ``diurnal``, ``diurnal:HOURS``, or the path of a trace, ``.csv``.
        num_clients: Size of the population.
        period: Seconds after which a trace repeats; the length of a day for the model.
        seed: Of the model.

    Raises:
        UsageError: The text says something else, or the trace can't be used.
    """
    check_availability(text)
    if not text:
        return None
    if text.endswith(".csv"):
        return read_trace(text, num_clients=num_clients, period=period)
    return diurnal(_hours(text), num_clients=num_clients, period=period, seed=seed)


def check_availability(text: str) -> None:
    """Raise `UsageError` if a text is none that `make_availability` takes; opens no file."""
    if text and not text.endswith(".csv"):
        _hours(text)


def diurnal(hours: float, *, num_clients: int, period: float, seed: int) -> Availability:
    """Model devices that are reachable for some hours of each night, charging and on an unmetered network.

    Bonawitz et al. ("Towards federated learning at scale", MLSys 2019, section 9) report such a curve with four times
    as many devices in the night as by day. Each client's start is drawn from a normal distribution with a standard
    deviation of three hours: habits and time zones of one region.

    Args:
        hours: How long each client is reachable, of 24.
        num_clients: Size of the population.
        period: Length of a day, seconds.
        seed: The phases are drawn from it.
    """
    phases = derive_rng(seed, "availability").normal(scale=_BEDTIME_SPREAD_HOURS / 24, size=num_clients)
    lengths = np.full(num_clients, hours / 24 * period)
    return Availability(num_clients, period, np.arange(num_clients), phases % 1 * period, lengths)


def read_trace(path: str | Path, *, num_clients: int, period: float) -> Availability:
    """Read a trace: CSV with the header ``client,start,end``, a window a line, seconds within one period.

    Windows of a client may touch but not overlap, and reach over the end of a period as two lines.

    Raises:
        ConfigError: The file can't be read, or a line is wrong; it says which.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from None
    first, header = lines[0] if lines else (1, [])
    if [cell.strip() for cell in header] != _HEADER:
        raise ConfigError(f"{path}, line {first} is {','.join(header)!r}, expected {','.join(_HEADER)}")
    spans = sorted(_parse_line(cells, f"{path}, line {number}", num_clients, period) for number, cells in lines[1:])
    by_client = groupby(spans, key=itemgetter(0))
    windows = [w for client, own in by_client for w in _merge(client, [span[1:] for span in own], period, str(path))]
    return Availability.of(windows, num_clients=num_clients, period=period)


def _hours(text: str) -> float:
    name, colon, number = text.partition(":")
    try:
        hours = float(number) if colon else _DEFAULT_HOURS
    except ValueError:
        hours = math.nan
    if name != DIURNAL or not 0 < hours <= 24:
        raise UsageError(f"{text!r} is neither diurnal, nor diurnal:HOURS with up to 24 hours, nor a .csv file")
    return hours


def _parse_line(cells: list[str], place: str, num_clients: int, period: float) -> Window:
    try:
        client, start, end = int(cells[0]), float(cells[1]), float(cells[2])
    except (ValueError, IndexError):
        client, start, end = -1, math.nan, math.nan
    if len(cells) != len(_HEADER) or math.isnan(start) or math.isnan(end):
        raise ConfigError(f"{place} is {','.join(cells)!r}, expected a client's number and two times in seconds")
    if not 0 <= client < num_clients:
        raise ConfigError(f"{place}: client is {client}, expected 0 to {num_clients - 1}")
    if not 0 <= start < end <= period:
        raise ConfigError(f"{place}: the window from {start:g} to {end:g} s is not within 0 to {period:g} s")
    return client, start, end


def _merge(client: int, spans: list[tuple[float, float]], period: float, path: str) -> Iterator[Window]:
    """Join sorted spans of one client that touch, over the end of the period too."""
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise ConfigError(f"{path}: two windows of client {client} overlap at {start:g} s")
    joined = [list(spans[0])]
    for start, end in spans[1:]:
        if start == joined[-1][1]:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    if len(joined) > 1 and joined[0][0] == 0 and joined[-1][1] == period:
        joined[-1][1] += joined.pop(0)[1]
    for start, end in joined:
        yield client, start, end - start
