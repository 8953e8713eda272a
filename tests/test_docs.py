"""What the docs show can be run."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["network.md", "quantization.md"])
def test_examples_run(name):
    results = doctest.testfile(str(DOCS / name), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0
