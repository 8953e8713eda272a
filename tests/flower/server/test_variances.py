"""Running variances stay positive, whatever a codec makes of their updates."""

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedcomp.data import load_dataset
from fedcomp.flower import compression_mod
from fedcomp.flower.server.variances import mend_variances
from fedcomp.training import evaluate
from tests.flower.toy import compressed, run_rounds

BEFORE = {"bn.running_var": np.array([1, 4, 2, 0], np.float32), "bn.weight": np.ones(2, np.float32)}


def test_one_that_would_not_be_positive_becomes_half_of_what_it_was():
    after = {"bn.running_var": np.array([-1, 0, 3, 0], np.float32), "bn.weight": np.array([-1, 0], np.float32)}
    mended = mend_variances(after, BEFORE)
    np.testing.assert_array_equal(mended["bn.running_var"], np.array([0.5, 2, 3, 0], np.float32))
    assert mended["bn.running_var"].dtype == np.float32
    assert mended["bn.weight"] is after["bn.weight"]


def test_a_model_without_such_is_left_alone():
    assert mend_variances(BEFORE, BEFORE) is BEFORE


def test_one_that_was_of_another_shape_is_left_alone():
    after = {"bn.running_var": np.array([-1, 0, 3], np.float32)}
    assert mend_variances(after, BEFORE) is after


def network():
    """The model that `docs/codecs.md` has figures of."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))


def digits_client():
    """Train an epoch on every fourth image, as no part of fedcomp does."""
    train, _ = load_dataset("digits")
    app = ClientApp(mods=[compression_mod()])

    @app.train()
    def fit(message, context):
        own = train.take(np.arange(context.node_config["partition-id"], len(train), 4))
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        images, labels = torch.from_numpy(own.images).float() / 255, torch.from_numpy(own.labels)
        for batch in torch.arange(len(own)).split(16)[:-1]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(own)})}
        return Message(RecordDict(content), reply_to=message)

    return app


def test_a_model_with_batch_norm_learns_under_a_coarse_codec():
    _, test = load_dataset("digits")
    strategy, _ = compressed(codec="topk(density=0.01) | ternary")
    start = {name: values.numpy() for name, values in network().state_dict().items()}
    result = run_rounds(strategy, digits_client(), num_rounds=8, model=start)
    model = network()
    model.load_state_dict(result.arrays.to_torch_state_dict())
    assert (model[2].running_var > 0).all()
    assert evaluate(model, test).accuracy > 0.85
