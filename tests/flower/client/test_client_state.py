"""A client's state in files: after a kill, after a server's resume, and when it is somebody else's."""

import json
import os
import stat
import struct

import numpy as np
import pytest
import xxhash
from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict

from fedcomp.flower import keep_state_mod, to_array_record, to_model
from fedcomp.flower.client.client_state import STATE_DIR_KEY, StateFolder
from fedcomp.flower.messages.encoding import encode_records
from fedcomp.flower.messages.order import ORDER_KEY, CompressionOrder
from fedcomp.flower.messages.order_record import write_order
from fedcomp.parcel import join_parcel
from fedcomp.simulation.identity import task_identity

NODE = 2**63 + 5


def state(value):
    return RecordDict({"fedcomp.memory": MetricRecord({"value": value})})


def do_round(folder, server_round, *, lineage="one", node=NODE, fails=False):
    """Let a client count its rounds, and return how many it knows of before this one."""
    context = Context(
        run_id=1, node_id=node, node_config={STATE_DIR_KEY: str(folder)}, state=RecordDict(), run_config={}
    )
    order = CompressionOrder("thin", 0, server_round, 1.0, 0.0, acknowledged=0, refused=0, lineage=lineage)
    seen = []

    def app(message, context):
        known = context.state["fedcomp.memory"]["value"] if "fedcomp.memory" in context.state else 0
        seen.append(known)
        context.state["fedcomp.memory"] = MetricRecord({"value": known + 1})
        if fails:
            raise ArithmeticError
        return Message(RecordDict(), reply_to=message)

    with task_identity(run_id=1, node_id=node):
        message = Message(RecordDict({ORDER_KEY: write_order(order)}), node, MessageType.TRAIN)
        keep_state_mod()(message, context, app)
    assert not context.state
    return seen[0]


def train_and_evaluate(context, server_round):
    """Let an app count its messages in a record of its own, beside fedcomp's; return what it has counted to."""
    order = CompressionOrder("thin", 0, server_round, 1.0, 0.0, acknowledged=0, refused=0, lineage="one")
    counted = []

    def app(message, context):
        counted.append(context.state["own"]["count"] + 1 if "own" in context.state else 1)
        context.state["own"] = MetricRecord({"count": counted[-1]})
        if message.metadata.message_type == MessageType.TRAIN:
            context.state["fedcomp.memory"] = MetricRecord({"value": server_round})
        return Message(RecordDict(), reply_to=message)

    with task_identity(run_id=1, node_id=NODE):
        keep = keep_state_mod()
        keep(Message(RecordDict({ORDER_KEY: write_order(order)}), NODE, MessageType.TRAIN), context, app)
        keep(Message(RecordDict(), NODE, MessageType.EVALUATE), context, app)
    assert list(context.state) == ["own"]
    return counted


def test_what_the_app_keeps_is_there_when_it_evaluates_and_after_a_restart(tmp_path):
    def process():
        config = {STATE_DIR_KEY: str(tmp_path)}
        return Context(run_id=1, node_id=NODE, node_config=config, state=RecordDict(), run_config={})

    context = process()
    assert [train_and_evaluate(context, number) for number in (1, 2)] == [[1, 2], [3, 4]]
    assert train_and_evaluate(process(), 3) == [4, 5]  # files are of training: the last evaluation is lost


def test_a_state_outlives_its_process(tmp_path):
    assert [do_round(tmp_path / "state", number) for number in (1, 2, 5)] == [0, 1, 2]


def test_a_round_that_is_done_again_begins_as_it_did(tmp_path):
    for number in (1, 2, 3):
        do_round(tmp_path, number)
    assert do_round(tmp_path, 3) == 2
    assert do_round(tmp_path, 4) == 3


def test_a_round_earlier_than_all_that_is_kept_begins_with_nothing(tmp_path):
    for number in (3, 4, 5):
        do_round(tmp_path, number)
    assert do_round(tmp_path, 2) == 0
    assert do_round(tmp_path, 6) == 1  # what came after round 2 never happened


@pytest.mark.parametrize("other", [{"lineage": "two"}, {"node": 7}])
def test_nobody_takes_anothers_state(tmp_path, other):
    do_round(tmp_path, 1)
    assert do_round(tmp_path, 2, **other) == 0


def test_a_round_that_fails_changes_nothing(tmp_path):
    do_round(tmp_path, 1)
    with pytest.raises(ArithmeticError):
        do_round(tmp_path, 2, fails=True)
    assert do_round(tmp_path, 2) == 1


def test_a_damaged_file_counts_as_none(tmp_path):
    do_round(tmp_path, 1)
    do_round(tmp_path, 2)
    newest = max(tmp_path.glob("*.state"))
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    assert do_round(tmp_path, 3) == 1


TITLE = json.dumps([str(NODE), "one", 2]).encode()


@pytest.mark.parametrize(
    "parcel",
    [
        b"",
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 2**20),
        join_parcel([]),
        join_parcel([b"{"]),
        join_parcel([b"\xff"]),
        join_parcel([b"[" * 100_000]),
        join_parcel([b"[1]"]),
        join_parcel([json.dumps([str(NODE), "one", "2"]).encode()]),
        join_parcel([TITLE]),
        join_parcel([TITLE, b"\xff\xff"]),
        join_parcel([TITLE, encode_records(RecordDict({"a": to_array_record({"w": np.ones(3)})}))[0]]),
    ],
    ids=lambda parcel: repr(parcel[:60]),
)
def test_a_file_of_something_else_with_a_right_checksum_counts_as_none(parcel, tmp_path):
    do_round(tmp_path, 1)
    (tmp_path / "00000002.state").write_bytes(xxhash.xxh3_64_digest(parcel) + parcel)
    assert do_round(tmp_path, 3) == 1


def test_two_rounds_are_kept_and_the_folder_is_its_owners_alone(tmp_path):
    folder = tmp_path / "state"
    for number in range(1, 6):
        do_round(folder, number)
    assert sorted(path.name for path in folder.iterdir()) == ["00000004.state", "00000005.state", "lock"]
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_what_a_kill_left_half_written_goes_with_the_next_round(tmp_path):
    do_round(tmp_path, 1)
    (tmp_path / ".00000002.state.partial").write_bytes(b"half of it")
    do_round(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.state", "00000003.state", "lock"]


def test_large_arrays_come_back_bit_for_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    folder = StateFolder(tmp_path)
    folder.write("n", "l", 1, RecordDict({"arrays": to_array_record({"w": values})}))
    np.testing.assert_array_equal(to_model(folder.read("n", "l", before=2)["arrays"])["w"], values)
