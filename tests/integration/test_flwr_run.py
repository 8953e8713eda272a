"""The same two apps under `flwr run .`, on the stock Ray simulation."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedcomp.simulation.superlink import SimulationSuperLink

ROOT = Path(__file__).parents[2]


def test_flwr_run(tmp_path):
    folder = tmp_path / "run"
    config = {
        "num-clients": 2,
        "num-server-rounds": 2,
        "model": "perceptron",
        "local-epochs": 1,
        "distill-epochs": 2,
        "out-dir": str(folder),
        "codec": "keep(below=64) | topk(density=0.02) | ternary",
    }
    with SimulationSuperLink(2) as superlink:
        superlink.run(ROOT, config)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["updates_accepted"] == 4
    assert summary["updates_rejected"] == 0
    assert summary["uplink_bytes"] * 50 < summary["dense_uplink_bytes"]


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_bundle_holds_what_the_apps_need_and_nothing_else():
    bundle = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(ROOT)))
    names = {name for name in bundle.namelist() if not name.startswith(".info")}
    expected = {
        str(path.relative_to(ROOT))
        for folder in ("fedcomp", "server", "clients")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert names == expected | {"pyproject.toml", "README.md", "LICENSE"}
    assert "fedcomp/data/sources.py" in names
