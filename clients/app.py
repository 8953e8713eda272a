"""The ClientApp: train the global model on this client's images; `compression_mod` sends what changed."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, cast

import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.data import DataFacts, client_data, client_name, shared_data
from fedcomp.config import RESOLVED_KEYS, RunConfig
from fedcomp.flower import compression_mod, keep_state_mod, to_array_record, to_model
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.seeding import derive_seed
from fedcomp.training import (
    Compute,
    LocalSettings,
    ObjectiveSettings,
    image_views,
    keep_zeros,
    make_objective,
    train_locally,
)

if TYPE_CHECKING:
    from flwr.app import Context
    from torch import nn

    from fedcomp.types import Model


def initial_model(message: Message, context: Context) -> Model:
    """Build the model that the run begins with: the configuration and the server's facts say all that decides it."""
    config = RunConfig.from_mapping(context.run_config)
    (instructions,) = message.content.config_records.values()
    return get_weights(untrained_model(config.model, DataFacts.of(instructions), config.seed))


app = ClientApp(mods=[keep_state_mod(), compression_mod(initial=initial_model)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    (arrays,), (instructions,) = message.content.array_records.values(), message.content.config_records.values()
    resolved = {key: instructions[key] for key in RESOLVED_KEYS if key in instructions}
    config = RunConfig.from_mapping({**context.run_config, **resolved})
    facts, server_round = DataFacts.of(instructions), cast("int", instructions["server-round"])
    data = client_data(config, facts, context)
    model = copy.deepcopy(untrained_model(config.model, facts, config.seed))
    set_weights(model, to_model(arrays))
    if config.prune_ratio:
        keep_zeros(model)
    objective = make_objective(ObjectiveSettings.of(config), image_views(config, facts.flip_ok), facts.num_classes)
    seed = derive_seed(config.seed, server_round, client_name(context))
    settings = LocalSettings.of(config, Compute(config.precision, config.memory_format), server_round=server_round)
    metrics = train_locally(model, data, settings, objective=objective, seed=seed)
    content = RecordDict({"arrays": to_array_record(get_weights(model)), "metrics": MetricRecord({**metrics})})
    return Message(content, reply_to=message)


def warm_up(config: RunConfig) -> None:
    """Do what every process would do before its first client; a simulation does it once, before it forks them."""
    data = shared_data(config, 0, config.num_clients).labelled
    facts = DataFacts(data.image_shape, data.num_classes, data.flip_ok)
    model = untrained_model(config.model, facts, config.seed)
    torch.optim.SGD(model.parameters(), config.learning_rate)  # a process's first optimizer loads much of torch


@functools.lru_cache(maxsize=1)
def untrained_model(name: str, facts: DataFacts, seed: int) -> nn.Module:
    """Build the model, once a process: clients train copies, because drawing weights takes longer than copying them."""
    return build_model(name, image_shape=facts.image_shape, num_classes=facts.num_classes, seed=seed)
