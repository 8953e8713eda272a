"""The configuration: defaults, ranges, pairs, and one clear error."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcomp.config import RunConfig
from fedcomp.errors import ConfigError

ROOT = Path(__file__).parents[1]


def test_flowers_defaults_are_the_models():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    defaults = RunConfig.from_mapping({}).to_mapping()
    flower = pyproject["tool"]["flwr"]["app"]["config"]
    assert flower == defaults
    assert {key: type(value) for key, value in flower.items()} == {k: type(v) for k, v in defaults.items()}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_configurations_are_valid_and_read_back(path, tmp_path):
    config = RunConfig.from_toml(path)
    (tmp_path / "resolved.toml").write_text(config.to_toml())
    assert RunConfig.from_toml(tmp_path / "resolved.toml") == config
    assert config.name == path.stem


def test_every_field_is_described():
    assert all(field.description for field in RunConfig.model_fields.values())


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"learning-rat": 0.1}, "learning-rat is not a key, did you mean learning-rate?"),
        ({"learning_rate": 0.1}, "learning_rate is not a key, did you mean learning-rate?"),
        ({"zzz": 1}, "zzz is not a key; docs/configuration.md has them all"),
        ({"num-clients": "20"}, "num-clients is '20'"),
        ({"num-clients": 2.5}, "num-clients is 2.5"),
        ({"num-clients": 0}, "num-clients is 0.*greater than or equal to 1"),
        ({"learning-rate": float("nan")}, "learning-rate is nan"),
        ({"learning-rate": True}, "learning-rate is True"),
        ({"partition": "random"}, "partition is 'random'.*'dirichlet', 'iid' or 'shards'"),
        ({"codec": "thinn"}, "codec is 'thinn'.*did you mean 'thin'"),
        ({"downlink": "thinn"}, "downlink is 'thinn'.*did you mean 'thin'"),
        ({"downlink-full": "none"}, "downlink-full is 'none'"),
        ({"downlink-full": "thin"}, "downlink-full is 'thin'.*must decode alike on every machine.*no lowrank"),
        ({"downlink-cache-bytes": -1}, "downlink-cache-bytes is -1"),
        ({"name": "../up"}, "name is '../up'"),
        ({"server-momentum": 0.5}, "server-momentum is for strategy fedavgm only"),
        ({"server-learning-rate": 0.5}, "server-learning-rate has no effect on strategy fedavg"),
        ({"label-fraction": 1.0}, "set it to supervised"),
        ({"labels-at": "server"}, "labels-at server needs server-labels and fine-tune-epochs"),
        ({"labels-at": "server", "server-labels": 9, "fine-tune-epochs": 1, "objective": "supervised"}, "set another"),
        ({"server-labels": 9}, "server-labels and fine-tune-epochs need each other"),
        ({"objective": "supervised", "pseudo-labels": "live"}, "objective supervised guesses nothing"),
        ({"objective": "supervised", "weight-by": "confident"}, "objective supervised guesses nothing"),
        ({"objective": "supervised", "pseudo-mixing": "cutmix"}, "no pseudo-labels, thresholds, mixtures"),
        ({"warm-up-epochs": 5}, "warm-up-epochs needs server-labels to train on"),
        ({"evaluate-on": "validation", "validation-size": 0, "teacher": "none"}, "needs validation-size above 0"),
        ({"static-batch-norm": True, "proxy-size": 0, "teacher": "none"}, "set proxy-size or server-labels"),
        ({"pseudo-labels": "mine"}, "pseudo-labels is 'mine'.*'auto', 'live', 'teacher' or 'broadcast'"),
        ({"student-bits": "3.weight=5"}, "student-bits is '3.weight=5'.*of the form layer=bits with bits of 8, 4, 2"),
        ({"student-bits": "*=4, =2"}, "'=2' is not of the form"),
        ({"student-bits": "4"}, "'4' is not of the form"),
        ({"student-bits": "*=4", "student-quantize": "none"}, "student-bits are of weights that are quantized"),
        ({"proxy-size": 0}, "proxy-size and validation-size above 0"),
        ({"fraction-train": 0.01}, "not one client"),
        ({"min-replies": 21}, "min-replies is 21, but a round has 20 clients"),
        ({"network": "ltee"}, "network is 'ltee'.*did you mean 'lte'"),
        ({"network": "lte:0.5 3g:0.2"}, "network is 'lte:0.5 3g:0.2'.*sum to 0.7, expected 1"),
        ({"network": "lte", "deployed": True}, "real clients have links of their own"),
        ({"network": "lte", "availability": "nightly"}, "availability is 'nightly'.*neither diurnal"),
        ({"dropout": 0.1}, "dropout and availability are of a simulated network: set network"),
        ({"availability": "diurnal"}, "set network"),
        ({"frame-keys": "keys", "codec": "none"}, "frame-keys seal frames, but codec none sends plain arrays"),
        ({"clip-update-norm": 5.0, "max-update-norm": 5.0}, "clip-update-norm 5.0 is nothing below max-update-norm"),
        ({"prune-ratio": 0.5, "downlink": "q8"}, "prune-ratio needs clients that see which weights are zero"),
        ({"prune-ratio": 0.5, "prune-from": 9, "prune-until": 3}, "prune-until 3 is before prune-from 9"),
        ({"strategy": "feddyn", "proximal-mu": 0.1}, "feddyn has a pull towards the global model of its own"),
        ({"strategy": "feddyn", "weight-by": "confident"}, "feddyn gives all clients the same weight"),
        ({"strategy": "feddyn", "server-learning-rate": 0.5}, "no effect on strategy feddyn"),
        ({"local-layers": "5.*"}, "no whole model to teach: set teacher to none"),
        ({"local-layers": "5.*", "teacher": "none", "keep-clients": True}, "keep-clients keeps whole classifiers"),
        ({"frozen": "0.*", "static-batch-norm": True}, "measures all layers anew, frozen ones too"),
        ({"objective": "rotation", "teacher": "none", "fusion-every": 5}, "rotation trains no classifier"),
        ({"objective": "rotation", "teacher": "none", "threshold": "adaptive"}, "rotation guesses nothing"),
        ({"objective": "simsiam", "server-labels": 50}, "simsiam trains no classifier"),
        ({"objective": "simsiam", "teacher": "none"}, "simsiam is measured by a linear probe at the server"),
        ({"objective": "simsiam", "teacher": "none", "server-labels": 1}, "a linear probe needs images of two classes"),
        ({"objective": "rotation"}, "rotation trains no classifier: no teacher"),
        ({"objective": "rotation", "teacher": "none", "keep-clients": True}, "or objectives that pretrain"),
        ({"network": "lte", "dropout": 1.0}, "dropout is 1.0.*less than 1"),
    ],
)
def test_one_clear_error(mapping, says):
    with pytest.raises(ConfigError, match="(?s)" + says.replace("?", r"\?")):
        RunConfig.from_mapping(mapping)


def test_all_problems_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_mapping({"seed": -1, "batch-size": 0, "nmae": "x"})
    assert len(str(caught.value).splitlines()) == 3


def test_all_impossible_pairs_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_mapping({"server-momentum": 0.5, "label-fraction": 1.0, "proxy-size": 0, "min-replies": 21})
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    "mapping",
    [
        {"strategy": "fedavgm", "server-momentum": 0.5, "server-learning-rate": 0.5},
        {"label-fraction": 1.0, "objective": "supervised"},
        {"label-fraction": 1.0, "labels-at": "server", "server-labels": 10, "fine-tune-epochs": 1},
        {"objective": "supervised", "server-labels": 10, "fine-tune-epochs": 1},
        {"teacher": "none", "proxy-size": 0, "validation-size": 0},
        {"teacher": "none", "objective": "rotation", "label-fraction": 1.0},
        {"teacher": "none", "objective": "rotation", "labels-at": "server"},
        {"num-clients": 3, "fraction-train": 0.34, "min-replies": 1},
        {"codec": "none"},
        {"downlink": "none", "downlink-cache-bytes": 0, "shared-initial": False},
        {"codec": "none", "downlink": "thin", "downlink-full": "lossless"},
        {"network": "fibre:0.2 lte:0.8", "dropout": 0.1, "availability": "diurnal:6", "round-deadline": 9.0},
        {"network": "lora", "availability": "no/such/trace.csv"},
        {"round-deadline": 30.0, "round-timeout": 20.0},
        {"student-bits": " *=4,0.weight = 8, ", "student-quantize": "qat"},
        {"clip-update-norm": 5.0},
        {"clip-update-norm": 5.0, "max-update-norm": 50.0},
    ],
)
def test_pairs_at_the_border_are_possible(mapping):
    assert RunConfig.from_mapping(mapping).to_mapping().items() >= mapping.items()


@pytest.mark.parametrize(
    ("mapping", "deadline", "seconds"),
    [
        ({}, None, 3600),
        ({"round-deadline": 30.0}, 30, 30),
        ({"round-deadline": 30.0, "round-timeout": 20.0}, 30, 20),
        ({"round-deadline": 30.0, "network": "lte"}, None, 3600),
    ],
)
def test_a_deadline_is_of_this_world_unless_the_network_is_simulated(mapping, deadline, seconds):
    config = RunConfig.from_mapping(mapping)
    assert (config.real_deadline, config.round_seconds) == (deadline, seconds)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-24", "2026-11-24"),
        ("'quoted'", "quoted"),
        (" spaced ", "spaced"),
    ],
)
def test_what_is_no_toml_scalar_is_a_string(tmp_path, text, value):
    (tmp_path / "run.toml").write_text("")
    assert RunConfig.from_toml(tmp_path / "run.toml", [f"name={text}"]).name == value


def test_bits_of_layers_keep_the_order_in_which_the_last_counts():
    config = RunConfig.from_mapping({"student-bits": "0.weight=2, *=4, 0.weight=8"})
    assert list(config.layer_bits.items()) == [("*", 4), ("0.weight", 8)]


def test_a_frozen_configuration():
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig.from_mapping({}).seed = 1


def test_overrides_win_and_are_typed(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("seed = 1\nlearning-rate = 1\n")
    overrides = ["seed=7", "codec=ultra", "strategy = 'fedadam'", "server-learning-rate=0.1", "max-update-norm=5"]
    config = RunConfig.from_toml(path, overrides)
    assert (config.seed, config.codec, config.strategy) == (7, "ultra", "fedadam")
    assert config.learning_rate == 1.0
    assert config.to_mapping()["max-update-norm"] == 5.0
    for bad in ("seed", "=3", "seed=x"):
        with pytest.raises(ConfigError):
            RunConfig.from_toml(path, [bad])


def test_paths_hold_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = RunConfig.from_mapping({"out-dir": "out", "proxy-dir": "/proxy", "frame-keys": "keys"})
    mapping = config.with_absolute_paths().to_mapping()
    assert [mapping[key] for key in ("out-dir", "data-dir", "proxy-dir", "frame-keys")] == [
        str(tmp_path / "out"),
        "",
        "/proxy",
        str(tmp_path / "keys"),
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000], ids=["nested", "long"])
def test_overrides_that_no_toml_can_hold_are_strings(tmp_path, text):
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(ConfigError, match="name is"):
        RunConfig.from_toml(tmp_path / "run.toml", [f"name=+{text}"])


def test_files_that_are_none(tmp_path):
    nested, long = b"[" * 100_000, b"9" * 5000
    tables = b"seed." * 3000 + b"x = 1"
    for content in (b"seed = ", b"\xff\xfe", b"seed = " + nested, b"seed = " + long, b"seed = 0x" + long, tables):
        (tmp_path / "run.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"run\.toml"):
            RunConfig.from_toml(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        RunConfig.from_toml(tmp_path / "none.toml")
