"""What the docs show can be run."""

import doctest
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import tomli_w

from fedcomp.config import RunConfig
from fedcomp.simulation import run_app

DOCS = Path(__file__).parents[1] / "docs"
ARCHITECTURE = (DOCS / "architecture.md").read_text()


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


def test_the_layers_are_those_that_are_checked():
    shown = re.search(r"## Layers\n.*?```\n(.*?)\n```", ARCHITECTURE, re.DOTALL)
    contracts = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert shown[1].splitlines() == next(each["layers"] for each in contracts if each["type"] == "layers")


@pytest.mark.parametrize(("section", "folder"), [("simulation engine", "simulation"), ("downlink", "flower")])
def test_tables_name_files_that_are_there(section, folder):
    table = re.search(rf"## The {section}\n.*?\n\|--.*?\n(.*?)\n\n", ARCHITECTURE, re.DOTALL)
    names = re.findall(r"`([\w/]+\.py)`", table[1])
    assert len(names) >= 5
    package = DOCS.parent / "fedcomp" / folder
    assert not [name for name in names if not any((place / name).is_file() for place in (package, DOCS.parent))]


def row_of(key, field):
    """A line of the table of keys; a bar within would end a cell."""
    choices = f" ({', '.join(get_args(field.annotation))})" if get_origin(field.annotation) is Literal else ""
    default = tomli_w.dumps({"x": field.default}).removeprefix("x = ").strip()
    return f"| `{key}` | `{default}` | {field.description}{choices} |".replace(" | ternary", " \\| ternary")


def test_every_key_is_described_as_the_configuration_does():
    rows = [row_of(key, field) for key, field in zip(RunConfig.keys(), RunConfig.model_fields.values(), strict=True)]
    shown = [line for line in (DOCS / "configuration.md").read_text().splitlines() if line.startswith("| `")]
    assert shown == rows
