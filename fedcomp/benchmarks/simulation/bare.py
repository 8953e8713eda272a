"""The bare loop: FedAvg by hand, in one process, or with the clients of a round spread over some."""

from __future__ import annotations

import copy
import multiprocessing
import random
import time
from typing import TYPE_CHECKING

import torch

from fedcomp.benchmarks.simulation.plain import Data, Trained, load_data, make_model, train

if TYPE_CHECKING:
    from torch import Tensor

    from fedcomp.benchmarks.simulation.turns import Turns
    from fedcomp.benchmarks.simulation.work import Work

    Weights = dict[str, Tensor]


def run_loop(work: Work, turns: Turns) -> None:
    """One process, one thread."""
    torch.set_num_threads(1)
    data = _load(work, turns)
    model = make_model(work.model)
    weights = copy.deepcopy(model.state_dict())
    for _ in range(work.rounds):
        turns.wait()
        mean: Weights = {}
        results = []
        for client in random.sample(range(work.num_clients), work.clients):
            model.load_state_dict(weights)
            results.append(train(model, data, client, work.batch_size, work.learning_rate))
            mean = _add(mean, model.state_dict(), 1 / work.clients)
        weights = mean
        turns.done(sum(result.examples for result in results), sum(result.loss for result in results) / work.clients)


def run_two_processes(work: Work, turns: Turns) -> None:
    """Two processes with one thread each; weights travel through a pool's pipes."""
    data = _load(work, turns)
    weights = make_model(work.model).state_dict()
    with multiprocessing.get_context("fork").Pool(2, _start_process, (data,)) as pool:
        for _ in range(work.rounds):
            turns.wait()
            arrays = {name: tensor.numpy() for name, tensor in weights.items()}
            tasks = [(work, arrays, client) for client in random.sample(range(work.num_clients), work.clients)]
            mean: Weights = {}
            results = []
            for trained, result in pool.imap(_train_client, tasks):
                tensors = {name: torch.from_numpy(array) for name, array in trained.items()}
                mean = _add(mean, tensors, 1 / work.clients)
                results.append(result)
            weights = mean
            turns.done(sum(r.examples for r in results), sum(r.loss for r in results) / work.clients)


def _load(work: Work, turns: Turns) -> Data:
    started = time.perf_counter()
    data = load_data(work)
    turns.loading(time.perf_counter() - started)
    return data


def _add(mean: Weights, weights: Weights, share: float) -> Weights:
    if not mean:
        return {name: tensor * share for name, tensor in weights.items()}
    return {name: mean[name] + tensor * share for name, tensor in weights.items()}


_data: Data


def _start_process(data: Data) -> None:
    global _data  # a pool's worker has no other place for it
    _data = data
    torch.set_num_threads(1)


def _train_client(task: tuple[Work, dict[str, object], int]) -> tuple[dict[str, object], Trained]:
    work, arrays, client = task
    model = make_model(work.model)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    result = train(model, _data, client, work.batch_size, work.learning_rate)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, result
