"""Replies as Flower's deployed Grid makes them of what strangers upload."""

import json
import tracemalloc

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id
from flwr.superlink.grid import http_grid

from fedcomp.flower import to_array_record, to_model
from fedcomp.flower.grid.inflating import inflating_carefully
from fedcomp.simulation.identity import task_identity
from tests.flower.superlink import order_to

LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def _identity():
    with task_identity(run_id=1, node_id=1):
        yield


def inflate(object_id, contents):
    """Make a message as the Grid does."""
    with inflating_carefully(LIMIT):
        return http_grid.inflate_object_from_contents(object_id, dict(contents))


def honest_reply():
    content = {"arrays": to_array_record({"w": np.ones(5, np.float32)}), "metrics": MetricRecord({"n": 1.0})}
    return Message(RecordDict(content), reply_to=order_to(1))


def uploaded(kind, children, body):
    """Return an object as a client may upload it: type, children and length in front, and nobody looks at the rest."""
    content = f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body
    return get_object_id(content), content


def test_an_honest_reply_is_as_ever():
    reply = honest_reply()
    contents = {id_: each.deflate() for id_, each in get_all_nested_objects(reply).items()}
    found = inflate(reply.object_id, contents)
    np.testing.assert_array_equal(to_model(found.content["arrays"])["w"], np.ones(5))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("MetricRecord", b""),
        ("Message", b"\xff\xff\xff"),
        ("RecordDict", b"[" * 100_000),
        ("Array", b"{}"),
        ("Array", b"no json"),
        ("Nothing", b""),
        ("Message", b""),
    ],
)
def test_what_is_no_message_is_an_error_that_says_so(kind, body):
    object_id, content = uploaded(kind, [], body)
    found = inflate(object_id, {object_id: content})
    assert found.error.reason.startswith("a reply can not be read: ")
    assert not found.metadata.reply_to_message_id, "it must be taken for nobody's"


def test_a_child_that_is_not_there_is_an_error():
    reply = honest_reply()
    found = inflate(reply.object_id, {reply.object_id: reply.deflate()})
    assert "can not be read" in found.error.reason


def test_a_chunk_that_is_named_many_times_is_never_put_together():
    chunk_id, chunk = uploaded("ArrayChunk", [], bytes(1 << 16))
    facts = {"dtype": "float32", "shape": [5], "stype": "fedcomp", "arraychunk_ids": [0] * 6000}
    array_id, array = uploaded("Array", [chunk_id], json.dumps(facts).encode())
    tracemalloc.start()
    found = inflate(array_id, {chunk_id: chunk, array_id: array})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"at most {LIMIT} are allowed" in found.error.reason
    assert peak < LIMIT


def test_two_that_overlap_leave_flower_as_it_was():
    before = http_grid.inflate_object_from_contents
    first, second = inflating_carefully(1), inflating_carefully(LIMIT)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert http_grid.inflate_object_from_contents is not before
    second.__exit__(None, None, None)
    assert http_grid.inflate_object_from_contents is before


def test_outside_flower_is_as_it_was():
    before = http_grid.inflate_object_from_contents
    with inflating_carefully(LIMIT):
        assert http_grid.inflate_object_from_contents is not before
    assert http_grid.inflate_object_from_contents is before
