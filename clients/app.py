"""The ClientApp: train the global model on this client's images; `compression_mod` sends what changed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.data import DataFacts, client_data, client_name, shared_data
from clients.memory import GRADIENT_KEY, LOCAL_LAYERS_KEY, recall, remember
from clients.personal import personal_metrics
from clients.training import train_model
from fedcomp.config import FROZEN_KEY, PARTICIPANTS_KEY, RESOLVED_KEYS, RunConfig
from fedcomp.data import hold_out_own
from fedcomp.flower import compression_mod, keep_state_mod, to_array_record, to_model
from fedcomp.models import PartialModel, get_weights, set_weights
from fedcomp.seeding import derive_seed
from fedcomp.training import (
    Dynamic,
    check_device,
    keep_zeros,
)

if TYPE_CHECKING:
    from flwr.app import Context

    from fedcomp.types import Model


def initial_model(message: Message, context: Context) -> Model:
    """Build the model that the run begins with: the configuration and the server's facts say all that decides it."""
    config = RunConfig.from_mapping(context.run_config)
    (instructions,) = message.content.config_records.values()
    return untrained_model(config, DataFacts.of(instructions)).shared_weights()


app = ClientApp(mods=[keep_state_mod(), compression_mod(initial=initial_model)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    (arrays,), (instructions,) = message.content.array_records.values(), message.content.config_records.values()
    resolved = {key: instructions[key] for key in RESOLVED_KEYS if key in instructions}
    config = RunConfig.from_mapping({**context.run_config, **resolved})
    facts, server_round = DataFacts.of(instructions), cast("int", instructions["server-round"])
    data, own = client_data(config, facts, context), None
    model = untrained_model(config, facts).copy()
    model.check_frozen(cast("int", instructions.get(FROZEN_KEY, 0)))
    model.set_shared(to_model(arrays))
    model.module.to(config.device)
    if config.prune_ratio:
        keep_zeros(model.module)
    if config.local_layers:
        data, own = hold_out_own(
            data, share=config.personal_share, seed=derive_seed(config.seed, "personal", client_name(context))
        )
        if kept := recall(context.state, LOCAL_LAYERS_KEY):
            set_weights(model.module, kept, model.parts.local)
    dynamic = None
    if config.strategy == "feddyn":
        dynamic = Dynamic(model.shared_parameters(), config.dyn_alpha, recall(context.state, GRADIENT_KEY))
    seed = derive_seed(config.seed, server_round, client_name(context))
    metrics = train_model(model, data, config, context.state, server_round, seed, dynamic)
    if own is not None:
        metrics |= personal_metrics(model.module, own)
        remember(context.state, LOCAL_LAYERS_KEY, get_weights(model.module, model.parts.local))
    if dynamic:
        metrics[PARTICIPANTS_KEY] = 1.0
        remember(context.state, GRADIENT_KEY, dynamic.next_gradient())
    content = RecordDict({"arrays": to_array_record(model.shared_weights()), "metrics": MetricRecord({**metrics})})
    return Message(content, reply_to=message)


def check(config: RunConfig) -> None:
    """Refuse what every client of a simulation on this machine would fail with, in each round.

    Raises:
        ConfigError: The device is not here.
    """
    check_device(config.device)


def warm_up(config: RunConfig) -> None:
    """Do what every process would do before its first client; a simulation does it once, before it forks them."""
    data = shared_data(config, 0, config.num_clients).labelled
    facts = DataFacts(data.image_shape, data.num_classes, data.flip_ok)
    model = untrained_model(config, facts)
    torch.optim.SGD(model.module.parameters(), config.learning_rate)  # a process's first optimizer loads much of torch


def untrained_model(config: RunConfig, facts: DataFacts) -> PartialModel:
    """Build the model, once a process: clients train copies, because drawing weights takes longer than copying them."""
    return _build(config.model, facts, config.seed, config.frozen, config.local_layers, config.pretraining)


@functools.lru_cache(maxsize=1)
def _build(name: str, facts: DataFacts, seed: int, frozen: str, local: str, pretraining: str) -> PartialModel:
    return PartialModel.build(
        name,
        image_shape=facts.image_shape,
        num_classes=facts.num_classes,
        seed=seed,
        frozen=frozen,
        local=local,
        pretraining=pretraining,
    )
