"""The reference app without torch: it learns, with the bytes that its README says, and it can be bundled."""

import io
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedcomp.simulation import run_app_folder

FOLDER = Path(__file__).parents[1] / "simulations" / "sklearn_digits"


def summary_of(*overrides, num_nodes=10):
    context = run_app_folder(FOLDER, num_nodes=num_nodes, num_workers=0, overrides=overrides)
    return context.state["summary"]


def test_it_learns_as_well_as_with_plain_arrays():
    compressed, plain = summary_of(), summary_of('codec="none" downlink="none"')
    assert compressed["accuracy"] >= 0.92
    assert compressed["accuracy"] >= plain["accuracy"] - 0.02
    assert plain["bytes-up-a-client-and-round"] == plain["bytes-down-a-client-and-round"] == 650 * 4 + 2 * 128
    assert compressed["bytes-up-a-client-and-round"] < 160
    assert compressed["bytes-down-a-client-and-round"] < 160


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_the_bundle_is_the_app():
    bundle = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(FOLDER)))
    names = {name for name in bundle.namelist() if not name.startswith(".info")}
    code = {f"sklearn_digits/{module}.py" for module in ("__init__", "client_app", "server_app", "task")}
    assert names == code | {"pyproject.toml", "README.md"}
