"""What the docs show can be run."""

import doctest
import re
from pathlib import Path

import pytest

from fedcomp.simulation import run_app

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["network.md", "quantization.md"])
def test_examples_run(name):
    results = doctest.testfile(str(DOCS / name), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0


def test_the_numpy_client_of_the_two_lines_trains(capsys):
    client, server = (run_code(code) for code in re.findall(r"```python\n(.*?)```", read("two-lines.md"), re.DOTALL))
    run_app(server["app"], client["app"], num_nodes=3, num_workers=0, run_config={}, client_timeout=5.0)
    printed = re.search(r"That prints `(.*?)`", read("two-lines.md")).group(1)
    assert printed in capsys.readouterr().out


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def run_code(code):
    names = {}
    exec(code, names)
    return names
