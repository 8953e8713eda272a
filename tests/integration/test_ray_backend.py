"""The same app under `--backend ray`: Flower's own simulation, started and ended by us."""

import importlib.util
import json

import pytest

from fedcomp.cli import run

SERVER = """
import json
import time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    for _ in range(300):  # Flower may start a ServerApp before the nodes have joined
        nodes = list(grid.get_node_ids())
        if len(nodes) == 2:
            break
        time.sleep(0.1)
    replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in nodes])
    words = [reply.content["said"]["word"] for reply in replies]
    Path(context.run_config["out"]).write_text(json.dumps(words))
    if context.run_config["fails"]:
        raise ValueError("as asked")
"""
CLIENT = """
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    word = f"{context.run_config['word']} from {context.node_config['partition-id']}"
    return Message(RecordDict({"said": ConfigRecord({"word": word})}), reply_to=message)
"""
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "greeter"
version = "1.0.0"
description = "says hello"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "greeter.server:app"
clientapp = "greeter.client:app"

[tool.flwr.app.config]
word = "hello"
out = ""
fails = false
"""


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "greeter-app"
    (folder / "greeter").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "LICENSE").write_text("none")
    for name, text in {"__init__": "", "server": SERVER, "client": CLIENT}.items():
        (folder / "greeter" / f"{name}.py").write_text(text)
    return folder


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
def test_app_runs_on_ray_and_its_failure_is_ours(app, tmp_path, capfd):
    out = tmp_path / "words.json"
    command = ["simulate", "--app", str(app), "--num-supernodes", "2", "--backend", "ray", "--workers", "1"]
    assert run([*command, "--run-config", f'word="good day" out="{out}" fails=true']) == 1
    said = capfd.readouterr().err
    assert "as asked" in said
    assert "finished:failed" in said.splitlines()[-1]
    assert set(json.loads(out.read_text())) == {"good day from 0", "good day from 1"}
