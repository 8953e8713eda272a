"""Loading a Flower app from its folder."""

import importlib.util
import sys

import pytest
from flwr.app import ConfigRecord

from fedcomp.cli import run
from fedcomp.errors import ConfigError
from fedcomp.simulation import load_app_folder, override_run_config, run_app, run_app_folder

SERVER = """
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from {package}.words import GREETING

app = ServerApp()


@app.main()
def main(grid, context):
    messages = [Message(RecordDict(), node, "train") for node in grid.get_node_ids()]
    said = [reply.content["said"]["word"] for reply in grid.send_and_receive(messages)]
    context.state["heard"] = ConfigRecord({{"words": said, "greeting": GREETING}})
"""
CLIENT = """
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    return Message(RecordDict({"said": ConfigRecord({"word": context.run_config["word.first"]})}), reply_to=message)
"""
PYPROJECT = """
[tool.flwr.app.components]
serverapp = "{package}.server:app"
clientapp = "{package}.client:app"

[tool.flwr.app.config]
rounds = 3
rate = 0.5
word.first = "hello"
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Write an app whose package name no other test has; forget its modules afterwards."""
    package = f"app_of_{abs(hash(tmp_path))}"
    (tmp_path / package).mkdir()
    files = {"__init__": "", "words": "GREETING = 'good day'", "server": SERVER.format(package=package)}
    for name, text in (files | {"client": CLIENT}).items():
        (tmp_path / package / f"{name}.py").write_text(text)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(package=package))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def replace(folder, old, new):
    file = folder / "pyproject.toml"
    file.write_text(file.read_text().replace(old, new))


def test_a_loaded_app_runs(app):
    server_app, client_app, run_config = load_app_folder(app)
    assert run_config == {"rounds": 3, "rate": 0.5, "word.first": "hello"}
    context = run_app(server_app, client_app, num_nodes=2, run_config=run_config)
    assert context.state["heard"] == ConfigRecord({"words": ["hello", "hello"], "greeting": "good day"})


def test_sys_path_is_as_before(app):
    before = sys.path.copy()
    load_app_folder(app)
    assert sys.path == before
    replace(app, ".client:app", ".clienttt:app")
    with pytest.raises(ConfigError):
        load_app_folder(app)
    assert sys.path == before


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (".client:app", ".clienttt:app", r"clientapp '.*clienttt:app' can not be loaded.*No module named"),
        (".client:app", ".client:apple", r"has no attribute 'apple'"),
        (".client:app", ".client", r"clientapp in .* is 'app_of_\w+\.client', expected 'package\.module:attribute'"),
        (".client:app", ".server:app", r"is a ServerApp, expected a ClientApp"),
        ("clientapp =", "other =", r"clientapp in .* is None, expected"),
        ("rounds = 3", "rounds = [3]", r"rounds in .* is \[3\], expected a bool, int, float or str"),
        ("rounds = 3", "rounds = ", r"pyproject\.toml: "),
        ("tool.flwr.app", "tool.other.app", r"has no table \[tool\.flwr\.app\]: name the folder"),
    ],
)
def test_one_clear_error(app, old, new, says):
    replace(app, old, new)
    with pytest.raises(ConfigError, match=says):
        load_app_folder(app)


def test_a_folder_without_pyproject(tmp_path):
    with pytest.raises(ConfigError, match=r"is no Flower app: it has no pyproject\.toml"):
        load_app_folder(tmp_path)


def test_another_module_of_the_same_name_is_not_taken_for_the_apps(app):
    replace(app, 'clientapp = "', 'clientapp = "json.decoder:JSONDecoder" # ')
    with pytest.raises(ConfigError, match="another module has this name"):
        load_app_folder(app)


LAZY_CLIENT = """
import os

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    from {package}.words import GREETING

    word = context.run_config["word.first"]
    return Message(RecordDict({{"said": ConfigRecord({{"word": word, "process": os.getpid()}})}}), reply_to=message)
"""


def test_an_apps_folder_runs_with_overrides(app):
    package = next(path.name for path in app.glob("app_of_*"))
    (app / package / "client.py").write_text(LAZY_CLIENT.format(package=package))
    context = run_app_folder(app, num_nodes=3, overrides=["word.first='hi there' rounds=4"], num_workers=2)
    assert context.state["heard"]["words"] == ["hi there"] * 3


def test_run_config_overrides(tmp_path):
    defaults = {"rounds": 3, "rate": 0.5, "name": "a", "word.first": "b"}
    (tmp_path / "file.toml").write_text("rounds = 7\n[word]\nfirst = 'c'\n")
    assert override_run_config(defaults, []) == defaults
    found = override_run_config(defaults, ['rounds=5 rate=1e-3 name="x y"', str(tmp_path / "file.toml"), "name='z'"])
    assert found == {"rounds": 7, "rate": 1e-3, "name": "z", "word.first": "c"}
    for override, says in [
        ("round=5", "round is not a key .* did you mean rounds"),
        ("xyz=5", "keys are rounds, rate, name"),
        ("name=plain", "strings are quoted"),
        ("rounds", "'rounds' is not of the form key=value"),
        ("rounds=[1]", "expected a bool, int, float or str"),
        (str(tmp_path / "none.toml"), "No such file"),
    ]:
        with pytest.raises(ConfigError, match=says):
            override_run_config(defaults, [override])


def test_the_command_runs_an_app_and_fails_with_it(app, capsys):
    package = next(path.name for path in app.glob("app_of_*"))
    assert run(["simulate", "--app", str(app), "--num-supernodes", "2", "--workers", "0"]) == 0
    (app / package / "server.py").write_text(
        "from flwr.serverapp import ServerApp\napp = ServerApp()\n"
        "@app.main()\ndef main(grid, context):\n    raise LookupError('nobody home')\n"
    )
    del sys.modules[f"{package}.server"]
    assert run(["simulate", "--app", str(app), "--num-supernodes", "2"]) == 1
    assert "nobody home" in capsys.readouterr().err
    for arguments, says in [
        (["--app", str(app)], "--app needs --num-supernodes"),
        (["--app", str(app), "--num-supernodes", "2", "--baseline"], "--baseline can not be used with --app"),
        (["configs/demo.toml", "--seed", "3"], "--seed can not be used without --app"),
        ([], "name a configuration file"),
        (["configs/demo.toml", "--ray-address", "h:1"], "--ray-address can not be used without --backend ray"),
        (["configs/demo.toml", "--backend", "ray", "--set", "network=3g"], "by the local engine only"),
        (["configs/demo.toml", "--backend", "ray", "--workers", "0"], "--workers 0 is for --backend local"),
        (["configs/demo.toml", "--backend", "ray", "--workers", "2", "--ray-address", "h:1"], "a running cluster has"),
        (
            ["--app", str(app), "--num-supernodes", "2", "--backend", "ray", "--seed", "3"],
            "--seed can not be used with --backend ray",
        ),
        (["--app", str(app), "--num-supernodes", "2", "--run-config", "nope=1"], "nope is not a key"),
    ]:
        assert run(["simulate", *arguments]) == 2
        assert says in capsys.readouterr().err


def test_ray_is_asked_for_by_name_where_it_is_missing(app, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    assert run(["simulate", "--app", str(app), "--num-supernodes", "2", "--backend", "ray"]) == 2
    assert "pip install 'flwr[simulation]'" in capsys.readouterr().err
