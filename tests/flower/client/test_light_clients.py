"""A client needs neither torch nor anything else that is heavy: only Flower, NumPy and the entropy coders."""

import json
import subprocess
import sys
from pathlib import Path

from fedcomp.benchmarks.server.client_round import ClientProcess
from fedcomp.benchmarks.server.workload import RoundsServer, make_model

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "matplotlib", "ray", "tensorboard", "datasets", "flwr_datasets")
NEEDLESS = (*HEAVY, "sklearn", "scipy", "pandas", "pyarrow", "PIL", "pydantic", "pydantic_core", "tomli_w")
OUT_OF_REACH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"{{name}} is out of reach", name=name)

sys.meta_path.insert(0, Refuse())
"""
OF_FEDCOMP = {"fedcomp", "numpy", "openzl", "pcodec", "safetensors", "xxhash", "zstandard", "google", "flwr"}


def python(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_whole_rounds_with_numpy_alone():
    """Decode the downlink, train, encode: the same client as the benchmark's, with all else out of reach."""
    code = OUT_OF_REACH.format(names=NEEDLESS) + "import runpy; "
    code += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    server = RoundsServer(make_model({"weight": (40, 50), "bias": (40,)}), codec="thin", downlink="thin")
    with ClientProcess([sys.executable, "-P", "-c", code]) as client:
        for server_round in range(1, 5):
            reply, _ = client.ask(server.order(server_round)[0])
            server.arrays = server.fold(server_round, [reply])
            assert (server.traffic.accepted, server.traffic.failed) == (1, 0)
    assert server.traffic.downlink_bytes < 4000 < server.traffic.dense_downlink_bytes


def test_whole_rounds_of_scikit_learn_without_torch():
    code = OUT_OF_REACH.format(names=HEAVY) + (
        "import json; from fedcomp.simulation import run_app_folder; "
        f"context = run_app_folder({str(ROOT / 'simulations' / 'sklearn_digits')!r}, num_nodes=3, num_workers=0, "
        "overrides=['num-server-rounds=10']); "
        "print(json.dumps(dict(context.state['summary'])))"
    )
    summary = python(code)
    assert summary["accuracy"] > 0.8
    assert summary["times-fewer-up"] > 10
    assert summary["times-fewer-down"] > 10


def test_what_is_out_of_reach_is():
    code = OUT_OF_REACH.format(names=("colorsys",)) + "import colorsys"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "colorsys is out of reach" in done.stderr


def test_importing_the_mod_adds_little_to_flower():
    code = (
        "import sys, json; import flwr.app, flwr.clientapp, flwr.serverapp.strategy; before = set(sys.modules); "
        "import fedcomp.flower; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    added = {name.partition(".")[0] for name in python(code)}
    assert added - set(sys.stdlib_module_names) <= OF_FEDCOMP
