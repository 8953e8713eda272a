"""What a client reads of a server's orders: what is wrong with one is told as what it is, before anything is done."""

import dataclasses

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedcomp.errors import UsageError
from fedcomp.flower import CompressedStrategy, compression_mod, keep_state_mod, to_array_record
from fedcomp.flower.client.client_state import STATE_DIR_KEY
from fedcomp.flower.messages.model_order import MODEL_KEY, ModelOrder
from fedcomp.flower.messages.order import ORDER_KEY, CompressionOrder
from fedcomp.flower.messages.order_record import read_order, write_order
from fedcomp.simulation.identity import task_identity
from tests.flower.toy import MODEL, run_rounds, toy_client, toy_inner

ORDER = CompressionOrder(
    codec="thin",
    seed=0,
    round=3,
    residual_decay=1.0,
    momentum_correction=0.0,
    acknowledged=2,
    refused=0,
    lineage="one",
    references=(7, 2**32 - 1),
)
WRONG_TYPES = {
    "codec": [3, b"thin", ["thin"]],
    "seed": ["0", 0.0, True, [0]],
    "round": ["3", 3.0, True, [3]],
    "residual_decay": ["1", b"1", True, [1.0]],
    "momentum_correction": ["0", b"0", False, [0.0]],
    "acknowledged": ["2", 2.0, True, [2]],
    "refused": ["0", 0.0, False, [0]],
    "lineage": [1, b"one", ["one"]],
    "budget": ["0", 1.5, True, [0]],
    "zeros_stay": [1, "true", [True]],
    "is_authenticated": [1, "", [False]],
    "references": [7, "78", b"78", [7.0], ["7"], [True]],
}
OUT_OF_RANGE = {
    "codec": ["", "\x1b[2J", "topk(density=2.0)", "codebook(levels=1000000000)", "rotate|" * 100_000],
    "round": [0, -1, 2**32, 2**64 - 1],
    "residual_decay": [-0.1, 1.1, float("nan"), float("inf")],
    "momentum_correction": [-0.1, 1, float("nan")],
    "acknowledged": [-1],
    "refused": [-1],
    "lineage": ["", "one\n", "x" * 100_000],
    "budget": [-1],
    "references": [[1, 1], [1, 2, 3]],
}


def each(wrong):
    return [pytest.param(name, value, id=f"{name}={value!r:.20}") for name, values in wrong.items() for value in values]


def receive(order, *, mod=None, model=None, config=None, state=None):
    """Let a client receive a message with an order, and return its reply; its app must not be reached."""
    content = {"arrays": to_array_record(MODEL), ORDER_KEY: order} | ({MODEL_KEY: model} if model else {})
    context = Context(run_id=1, node_id=5, node_config=config or {}, state=RecordDict(state or {}), run_config={})

    def app(message, context):
        pytest.fail("trained for nothing")

    try:
        with task_identity(run_id=1, node_id=5):
            return (mod or compression_mod())(Message(RecordDict(content), 5, MessageType.TRAIN), context, app)
    finally:
        assert {**context.state} == (state or {}), "a message that is refused makes nobody forget"


def changed(order, name, value):
    record = write_order(order)
    record[name] = value
    return record


@pytest.mark.parametrize("order", [ORDER, ModelOrder(base=0, model=2**32 - 1)])
def test_an_order_comes_back(order):
    assert read_order(type(order), write_order(order)) == order


def test_a_whole_number_is_a_decay_too():
    assert read_order(CompressionOrder, changed(ORDER, "residual_decay", 1)) == ORDER


@pytest.mark.parametrize(("name", "value"), each(WRONG_TYPES))
def test_a_value_of_another_type_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"the server's CompressionOrder has {name} of type .*, expected"):
        receive(changed(ORDER, name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", True), ("seed", np.int64(1)), ("residual_decay", np.float32(1)), ("budget", 1e5), ("zeros_stay", 1)],
)
def test_no_server_writes_what_no_client_would_read(name, value):
    with pytest.raises(UsageError, match=f"the server's CompressionOrder has {name} of type .*, expected"):
        write_order(dataclasses.replace(ORDER, **{name: value}))


def test_a_budget_that_no_client_would_read_ends_the_run():
    strategy = CompressedStrategy(toy_inner(), codec="thin", uplink_budget=lambda *_: 1e5)
    with pytest.raises(UsageError, match="budget of type float, expected int"):
        run_rounds(strategy, toy_client(), num_rounds=1)


def test_a_decay_may_be_one_of_numpy():
    assert read_order(CompressionOrder, write_order(dataclasses.replace(ORDER, residual_decay=np.float64(1)))) == ORDER


@pytest.mark.parametrize(("name", "value"), each({"base": ["0", 0.0, [0]], "model": [True], "references": [1, [1.0]]}))
def test_so_is_one_in_an_order_about_the_model(name, value):
    model = changed(ModelOrder(base=1, model=2), name, value)
    with pytest.raises(UsageError, match=f"the server's ModelOrder has {name} of type .*, expected"):
        receive(
            changed(ORDER, "references", []), model=model, state={"fedcomp.lineage": ConfigRecord({"lineage": "zero"})}
        )


@pytest.mark.parametrize(("name", "value"), each(OUT_OF_RANGE))
def test_a_value_out_of_range_is_told_before_anything_is_trained(name, value):
    try:
        reply = receive(changed(ORDER, name, value))
    except UsageError as error:
        said = str(error)
    else:
        said = reply.error.reason
    assert "expected" in said
    assert len(said) < 500
    assert "\x1b" not in said


def test_a_budget_that_the_codec_can_not_keep_to_is_told_before_anything_is_trained():
    order = write_order(dataclasses.replace(ORDER, references=(), codec="lossless"))
    order["budget"] = 100
    with pytest.raises(UsageError, match="can't keep to a budget"):
        receive(order)


@pytest.mark.parametrize("key", [ORDER_KEY, MODEL_KEY])
def test_a_record_of_another_kind_is_refused(key):
    records = {ORDER_KEY: changed(ORDER, "references", []), MODEL_KEY: None} | {key: MetricRecord({"round": 1})}
    with pytest.raises(UsageError, match="is a MetricRecord, expected a ConfigRecord"):
        receive(records[ORDER_KEY], model=records[MODEL_KEY])


@pytest.mark.parametrize("change", [{"surprise": 1}, {f"surprise {i}": i for i in range(10_000)}])
def test_an_order_of_another_version_is_refused(change):
    with pytest.raises(UsageError, match="other versions") as caught:
        receive(ConfigRecord({**write_order(ORDER), **change}))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "record",
    [
        ConfigRecord({"round": 1}),
        changed(ORDER, "round", "../../x"),
        changed(ORDER, "round", -1),
        changed(ORDER, "lineage", 1),
        MetricRecord({"round": 1}),
    ],
)
def test_a_wrong_order_leaves_no_file(record, tmp_path):
    with pytest.raises(UsageError, match="expected"):
        receive(record, mod=keep_state_mod(), config={STATE_DIR_KEY: str(tmp_path / "state")})
    assert not (tmp_path / "state").exists()
