"""Which tensors train and travel, and that both ends have the same of those that do not."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedcomp.errors import ConfigError, DataError
from fedcomp.models import ModelParts, PartialModel, evaluation_mode, freeze, get_weights, set_weights, training_mode


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 2))


def partial(**arguments):
    return PartialModel.build("perceptron", image_shape=(1, 8, 8), num_classes=10, seed=0, **arguments)


def test_every_tensor_is_one_of_the_three():
    model = network()
    parts = ModelParts.of(model, frozen="0.*, 1.running_*", local="4.bias")
    assert parts.frozen == ("0.weight", "0.bias", "1.running_mean", "1.running_var")
    assert parts.local == ("4.bias",)
    assert {*parts.frozen, *parts.local, *parts.shared} == set(model.state_dict())
    assert len(parts.frozen) + len(parts.local) + len(parts.shared) == len(model.state_dict())


@pytest.mark.parametrize(
    ("frozen", "local", "says"),
    [
        ("backbone.*", "", r"frozen has the pattern 'backbone\.\*', which fits none of 0\.weight"),
        ("", "head", "local-layers has the pattern 'head'"),
        ("0.*", "*.weight", r"0\.weight is both frozen and of local-layers"),
        ("*", "", "no parameter that clients could share"),
        ("0.*", "1.weight,1.bias,4.*", "no parameter"),
    ],
)
def test_patterns_that_make_no_sense(frozen, local, says):
    with pytest.raises(ConfigError, match=says):
        ModelParts.of(network(), frozen=frozen, local=local)


def test_what_is_frozen_neither_trains_nor_counts():
    model = network()
    freeze(model, ["0.weight", "0.bias", "1.weight", "1.bias"])
    training_mode(model)
    before = copy.deepcopy(model.state_dict())
    model(torch.rand(3, 1, 8, 8)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["4.weight", "4.bias"]
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
    assert model[3].training  # dropout in front of the trained head goes on


def test_what_is_frozen_is_so_after_an_evaluation_too():
    model = network()
    freeze(model, ["1.weight", "1.bias"])
    training_mode(model)
    before = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    assert before[2] is False
    assert before.count(False) == 1


def test_parts_go_out_and_in():
    model, other = partial(frozen="1.*", local="5.*"), partial(frozen="1.*", local="5.*")
    weights = {name: values + 1 for name, values in model.shared_weights().items()}
    assert list(weights) == ["3.weight", "3.bias"]
    other.set_shared(weights)
    after, before = get_weights(other.module), get_weights(model.module)
    assert all((after[name] == weights.get(name, before[name])).all() for name in before)
    with pytest.raises(DataError, match=r"3\.bias.*found none"):
        set_weights(other.module, {"3.weight": weights["3.weight"]}, other.parts.shared)
    with pytest.raises(DataError, match=r"1\.bias.*expected none"):
        other.set_shared(before)


def test_other_frozen_tensors_are_noticed():
    model = partial(frozen="1.*")
    model.check_frozen(partial(frozen="1.*").frozen_fingerprint)
    changed = replace(model, frozen_fingerprint=model.frozen_fingerprint ^ 1)
    with pytest.raises(DataError, match="2 frozen tensors have fingerprint"):
        changed.check_frozen(model.frozen_fingerprint)
    assert partial().frozen_fingerprint == 0


def test_a_copy_trains_alone():
    model = partial()
    with torch.no_grad():
        model.copy().module[1].bias.add_(1)
    assert (model.module[1].bias != model.copy().module[1].bias + 1).all()
    assert set(model.shared_parameters()) == set(model.parts.shared)
