"""Checkpoints: what a strategy keeps comes back, what can not be kept is refused, a damaged file is noticed."""

import json
import random
import struct

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideAdaptiveClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
)
from safetensors.numpy import save

from fedcomp.errors import CheckpointError, DataError
from fedcomp.files import read_tensors
from fedcomp.flower import CheckpointFolder, CompressedStrategy, ResumableStrategy, to_array_record, to_model
from fedcomp.flower.state.keeping import keep_strategy, restore_strategy
from fedcomp.flower.state.random_state import keep_random_state, restore_random_state
from fedcomp.flower.state.snapshot import Snapshot, _checksum, read_snapshot, write_snapshot
from fedcomp.simulation import LocalGrid, seeded_global_random
from fedcomp.simulation.identity import task_identity
from tests.flower.toy import MODEL as TOY_MODEL
from tests.flower.toy import toy_client

MODEL = {"b": np.arange(3, dtype=np.float32), "a": np.array(0.1, np.float64), "none": np.zeros((0, 2), np.float32)}

BUILDERS = {
    "fedavg": FedAvg,
    "fedavgm": lambda: FedAvgM(server_momentum=0.9),
    "fedprox": FedProx,
    "fedadam": lambda: FedAdam(eta=0.1),
    "fedyogi": FedYogi,
    "fedadagrad": FedAdagrad,
    "krum": lambda: Krum(num_malicious_nodes=1),
    "median": FedMedian,
    "trimmed": FedTrimmedAvg,
    "adaptive clipping": lambda: DifferentialPrivacyServerSideAdaptiveClipping(
        FedAvg(), noise_multiplier=0.0, num_sampled_clients=4
    ),
}


class Keeper(FedAvg):
    def __init__(self, kept):
        super().__init__()
        self.kept = kept


def through_a_file(kept, path):
    write_snapshot(path, keep_strategy(Keeper(kept)))
    restored = Keeper(None)
    restore_strategy(restored, read_snapshot(path))
    return restored.kept


@pytest.mark.parametrize(
    "kept",
    [None, True, 3, 2**80, 0.1, float("inf"), "text", b"bytes", [1, (2, [b"x"])], {}, {1: "a", "b": {2: [0.5]}}],
    ids=repr,
)
def test_plain_values_come_back(kept, tmp_path):
    assert through_a_file(kept, tmp_path / "x") == kept


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_come_back_with_type_and_shape(dtype, shape, tmp_path):
    array = np.ones(shape, dtype)
    back = through_a_file({"m": [array, array[()] if not shape else array.T]}, tmp_path / "x")["m"]
    np.testing.assert_array_equal(back[0], array, strict=True)
    np.testing.assert_array_equal(back[1], array.T, strict=True)


def test_nan_and_negative_zero_keep_their_bits(tmp_path):
    array = np.array([np.nan, -0.0, 5e-324])
    assert through_a_file(array, tmp_path / "x").tobytes() == array.tobytes()


def test_array_records_come_back_in_their_order(tmp_path):
    back = through_a_file(to_array_record(MODEL), tmp_path / "x")
    assert isinstance(back, ArrayRecord)
    assert list(back) == list(MODEL)
    assert all(np.array_equal(values, MODEL[name]) for name, values in to_model(back).items())


@pytest.mark.parametrize(
    "kept",
    [object(), np.random.default_rng(0), {1.5: 0}, [print], np.array(["x"]), {1}, np.array([object()])],
    ids=lambda kept: type(kept).__name__,
)
def test_what_can_not_be_kept_is_refused_by_name(kept):
    with pytest.raises(CheckpointError, match=r"Keeper\.kept"):
        keep_strategy(Keeper(kept))


def test_what_can_not_be_kept_is_refused_before_the_first_round(tmp_path):
    resumable = ResumableStrategy(CompressedStrategy(Keeper(object())), CheckpointFolder(tmp_path / "checkpoint"))
    with pytest.raises(CheckpointError, match=r"Keeper\.kept"):
        resumable.start(None, to_array_record(MODEL))


def test_the_global_generators_come_back(tmp_path):
    with seeded_global_random(3):
        random.gauss(0, 1), np.random.normal()
        write_snapshot(tmp_path / "x", keep_random_state())
        expected = random.gauss(0, 1), random.random(), np.random.normal(), np.random.random()
        restore_random_state(read_snapshot(tmp_path / "x"))
        assert (random.gauss(0, 1), random.random(), np.random.normal(), np.random.random()) == expected


def test_any_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "x"
    write_snapshot(path, Snapshot({"round": 3}, {"model": np.arange(5)}))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"no checkpoint|damaged"):
            read_snapshot(path)


def write_tampered(path, facts, tensors):
    """Write a file whose checksum, which needs no key, is right."""
    notes = {"fedcomp.facts": facts, "fedcomp.checksum": _checksum(facts, tensors)}
    path.write_bytes(save(tensors, metadata=notes))


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ("[" * 100_000, "no JSON"),
        ("{", "no JSON"),
        ("[]", "a list, expected an object"),
        ("{}", "KeyError: 'run'"),
        ('{"run": []}', "something else"),
        ('{"run": {"format": 4, "round": "1", "tensors": []}, "model": {}}', "round '1', expected a number"),
        ('{"run": {"format": 4, "round": 1, "tensors": ["w"]}, "model": {}}', "KeyError: 'w'"),
        ('{"run": {"format": 4, "round": 1, "tensors": [[]]}, "model": {}}', "something else"),
        ('{"run": {"format": 2}}', "format 2, expected 4"),
    ],
    ids=lambda text: text[:30],
)
def test_a_checkpoint_of_other_facts_is_refused_by_name(facts, what, tmp_path):
    write_tampered(tmp_path / "last.safetensors", facts, {})
    with pytest.raises(CheckpointError, match=rf"last\.safetensors .*{what}"):
        CheckpointFolder(tmp_path).last()


@pytest.mark.parametrize("facts", [{}, {"strategy": 1}, {"strategy": {"inner": {"attributes": {"is": "unheard of"}}}}])
def test_a_checkpoint_of_another_strategy_is_refused_by_name(facts, tmp_path):
    run = {"run": {"format": 4, "round": 1, "tensors": []}, "model": {}}
    write_tampered(tmp_path / "last.safetensors", json.dumps(run | facts), {})
    folder = CheckpointFolder(tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds something else than this run's state: "):
        folder.restore(folder.last(), CompressedStrategy(FedAvg()), grid=None)


@pytest.mark.parametrize("order", ["[" * 100_000, "5", "{"], ids=["nested", "number", "no JSON"])
def test_tensors_of_an_order_that_is_none_are_refused_by_name(order, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"w": np.zeros(3)}, metadata={"fedcomp.order": order}))
    with pytest.raises(DataError, match=r"model\.safetensors is no safetensors file"):
        read_tensors(path)


def test_tensors_of_a_type_that_numpy_lacks_are_refused_by_name(tmp_path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + b"xx")
    with pytest.raises(DataError, match="x is no safetensors file"):
        read_tensors(tmp_path / "x")
    with pytest.raises(CheckpointError, match="x is no checkpoint"):
        read_snapshot(tmp_path / "x")


@pytest.mark.parametrize("name", BUILDERS)
def test_any_stock_strategy_goes_on_to_the_same_model(name, tmp_path, caplog):
    """Four rounds, and two rounds, a checkpoint and two more with everything built anew."""
    whole = four_rounds(name, tmp_path / "whole", stop_after=4)
    four_rounds(name, tmp_path / "parts", stop_after=2)
    assert "going on" not in caplog.text
    rest = four_rounds(name, tmp_path / "parts", stop_after=4)
    assert {key: array.data for key, array in rest.arrays.items()} == {k: a.data for k, a in whole.arrays.items()}
    assert set(rest.train_metrics_clientapp) == {3, 4}
    assert "going on after round 2 of 4" in caplog.text


class Stopped(Exception):
    pass


def four_rounds(name, folder, stop_after):
    rounds = []

    def evaluate(server_round, arrays):
        rounds.append(server_round)
        if server_round > stop_after:
            raise Stopped

    inner = CompressedStrategy(BUILDERS[name](), codec="topk(density=0.5) | ternary")
    strategy = ResumableStrategy(inner, CheckpointFolder(folder))
    folder.mkdir(exist_ok=True)
    with (
        task_identity(run_id=5, node_id=1),
        seeded_global_random(0),
        LocalGrid(toy_client(), num_nodes=4, num_workers=0) as grid,
    ):
        try:
            return strategy.start(grid, to_array_record(TOY_MODEL), num_rounds=4, evaluate_fn=evaluate)
        except Stopped:
            return None
