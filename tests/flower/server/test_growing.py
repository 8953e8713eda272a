"""A strategy whose model gains and loses tensors within a run."""

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.flower import compression_mod, to_array_record, to_model
from tests.flower.toy import MODEL, compressed, run_rounds, toy_inner


class Growing(FedAvg):
    """Adds a tensor before round 3, and takes it away before round 5."""

    def configure_train(self, server_round, arrays, config, grid):
        model = to_model(arrays)
        if server_round == 3:
            model["more"] = np.ones((6, 6), np.float32)
        if server_round == 5:
            del model["more"]
        return super().configure_train(server_round, to_array_record(model), config, grid)


@pytest.mark.parametrize("given", [{}, {"initial": MODEL}])
@pytest.mark.parametrize(
    "downlink", [{}, {"downlink": "topk(density=0.1) | uniform(bits=3)", "downlink_full": "float16"}]
)
def test_a_model_may_grow_and_shrink(given, downlink):
    """What a client holds is of no use for a model of other tensors: it is sent that as a whole."""
    app = ClientApp(mods=[compression_mod(initial=(lambda _message, _context: MODEL) if given else None)])

    @app.train()
    def train(message, _context):
        arrays = message.content["arrays"]
        return Message(RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": 1})}), reply_to=message)

    strategy, rounds = compressed(toy_inner(Growing), codec="topk(density=0.2) | uniform(bits=4)", **given, **downlink)
    found = to_model(run_rounds(strategy, app, num_rounds=6).arrays)
    assert [(one.accepted, one.failed) for one in rounds] == [(4, 0)] * 6
    assert list(found) == list(MODEL)
