"""What the docs show can be run."""

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["network.md", "quantization.md"])
def test_examples_run(name):
    results = doctest.testfile(str(DOCS / name), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0


def test_the_example_of_own_data_runs_from_an_empty_folder(tmp_path):
    blocks = re.findall(r"```(\w+)\n(.*?)```", (DOCS / "own-data.md").read_text(), re.DOTALL)
    for _, text in blocks:
        if name := re.match(r"# (\S+\.\w+)\n", text):
            (tmp_path / name[1]).write_text(text)
    commands = next(text for language, text in blocks if language == "sh").splitlines()
    for command in commands:
        arguments = [sys.executable, "-W", "ignore", *command.split()[1:]]
        environment = os.environ | {"PYTHONPATH": str(DOCS.parent)}
        subprocess.run(arguments, cwd=tmp_path, env=environment, check=True, timeout=240)
    summary = json.loads((tmp_path / "runs" / "boards" / "summary.json").read_text())
    assert summary["accuracy"] > 0.9
