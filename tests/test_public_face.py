"""What others rely on is there, and the documented examples run."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fedcomp

PACKAGES = sorted(module.name for module in pkgutil.iter_modules(fedcomp.__path__) if module.ispkg)


@pytest.mark.parametrize("name", ["fedcomp", *(f"fedcomp.{package}" for package in PACKAGES)])
def test_a_package_exports_what_it_says_sorted(name):
    package = importlib.import_module(name)
    assert package.__doc__
    assert all(hasattr(package, member) for member in package.__all__)
    assert len(set(package.__all__)) == len(package.__all__)


def test_names_of_the_interface():
    assert {"codec", "decode", "ErrorFeedback", "FrameLimits", "CodingContext", "ModelSpec"} <= set(fedcomp.__all__)


def test_docstring_examples_run():
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(fedcomp.__path__, "fedcomp.")
        if not module.name.endswith("_pb2")
    ]
    results = [doctest.testmod(module) for module in modules]
    assert sum(result.attempted for result in results) >= 5
    assert sum(result.failed for result in results) == 0


def test_an_edge_client_needs_no_torch():
    """Encode, decode and the Flower adapters import with torch, scikit-learn and datasets out of reach."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'onnxruntime', 'sklearn', "
        "'datasets', 'flwr_datasets', 'ray'])); "
        "import fedcomp, fedcomp.flower, fedcomp.simulation, fedcomp.cli, fedcomp.reporting, fedcomp.config, "
        "fedcomp.deployment, fedcomp.serving, fedcomp.store"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
