"""A third of the clients die, others lie in every way: each is counted, and the model is that of the honest ones."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import zstandard

import fedcomp
from fedcomp.codecs.coding.entropy import Zstd
from fedcomp.flower import StreamingGrid, to_model
from fedcomp.wire import FrameLimits, Section, SectionKind, read_frame, write_frame
from tests.flower.toy import compressed, frame_of, run_rounds, tamper, toy_client, toy_inner, with_frame

NUM_CLIENTS, NUM_ROUNDS = 12, 3
DEAD = (1, 4, 7, 10)
GARBAGE, NAN, REPLAY, BOMB, STRANGER = 2, 3, 5, 8, 11
REASONS = {
    GARBAGE: "malformed",
    NAN: "invalid-values",
    REPLAY: "stale",
    BOMB: "malformed",
    STRANGER: "wrong-model",
}
SECONDS = 3.0
"""Until a round is closed in which somebody never answers."""


def with_sections(data, change):
    """Rewrite a frame's sections; checksum, binding and stages stay right."""
    frame = read_frame(data, FrameLimits())
    return write_frame(replace(frame, sections=tuple(change(section) for section in frame.sections)))


def with_nan(section):
    """Make the step of `deadzone` no number."""
    if section.kind != SectionKind.TABLES or section.coder != 0:
        return section
    return Section(section.kind, 0, np.float32(np.nan).tobytes() + section.data[4:])


def with_bomb(section):
    if section.kind != SectionKind.VALUES:
        return section
    return Section(section.kind, Zstd.wire_id, zstandard.ZstdCompressor().compress(bytes(1 << 26)))


def liar():
    """Make the mod of all clients that do as they like."""
    kept = {}

    def change(reply, context):
        partition, frame = context.node_config["partition-id"], frame_of(reply)
        if partition == GARBAGE:
            frame = np.random.default_rng(0).bytes(300)
        elif partition == NAN:
            frame = with_sections(frame, with_nan)
        elif partition == REPLAY:
            frame = kept.setdefault("first", frame)  # honest in the first round
        elif partition == BOMB:
            frame = with_sections(frame, with_bomb)
        elif partition == STRANGER:
            frame = fedcomp.codec("thin").encode({"other": np.ones((9, 9), np.float32)}).frame
        return with_frame(reply, frame)

    return tamper(set(REASONS), change)


def dies(*partitions, from_round=1):
    """Make a mod whose clients die, from a round on."""

    def mod(message, context, call_next):
        server_round = message.content["config"]["server-round"]
        if context.node_config["partition-id"] in partitions and server_round >= from_round:
            raise RuntimeError("out of memory")
        return call_next(message, context)

    return mod


class InOrder:
    """Give the replies of another Grid three at a time, in an order that is drawn; some never."""

    def __init__(self, grid, seed, silent):
        self._grid, self._rng = grid, np.random.default_rng(seed)
        nodes = list(grid.get_node_ids())
        self._silent = {nodes[partition] for partition in silent}
        self._rank = dict(zip(nodes, self._rng.permutation(len(nodes)).tolist(), strict=True))

    def __getattr__(self, name):
        return getattr(self._grid, name)

    def push_messages(self, messages):
        ids = list(self._grid.push_messages(messages))
        self._nodes = {id_: message.metadata.dst_node_id for id_, message in zip(ids, messages, strict=True)}
        replies = []
        while len(replies) < len(ids):
            replies += self._grid.pull_messages(ids)
        heard = [reply for reply in replies if self._nodes[reply.metadata.reply_to_message_id] not in self._silent]
        self._ready = sorted(heard, key=lambda reply: self._rank[self._nodes[reply.metadata.reply_to_message_id]])
        return ids

    def pull_messages(self, message_ids):
        asked = set(message_ids)
        given = [reply for reply in self._ready if reply.metadata.reply_to_message_id in asked][:3]
        self._ready = [reply for reply in self._ready if reply not in given]
        return given


def federation(client, codec, on_grid):
    strategy, rounds = compressed(toy_inner(num_nodes=NUM_CLIENTS), codec=codec, min_replies=3)
    result = run_rounds(strategy, client, num_nodes=NUM_CLIENTS, num_rounds=NUM_ROUNDS, on_grid=on_grid)
    return to_model(result.arrays), rounds


def in_order(seed, silent=()):
    return lambda grid: StreamingGrid(InOrder(grid, seed, silent), deadline=SECONDS)


@pytest.mark.parametrize("codec", ["thin", "keep(below=4) | deadzone(step=1.0)"])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_the_aggregate_is_that_of_the_honest_ones(codec, seed):
    on_grid = in_order(seed) if seed is not None else None
    model, rounds = federation(toy_client(liar(), dies(*DEAD)), codec, on_grid)
    honest = toy_client(dies(*DEAD, GARBAGE, NAN, BOMB, STRANGER), dies(REPLAY, from_round=2))
    expected, _ = federation(honest, codec, on_grid)
    for name, values in expected.items():
        np.testing.assert_array_equal(model[name], values, err_msg=name)
    every = Counter(REASONS.values())
    first = every - Counter({"stale": 1})
    assert [dict(r.rejected) for r in rounds] == [first, every, every]
    assert [(r.accepted, r.failed, r.late) for r in rounds] == [(4, 4, 0), (3, 4, 0), (3, 4, 0)]


def test_those_who_are_never_heard_of_again_cost_the_round_its_deadline_only():
    silent = (*DEAD[:2], GARBAGE)
    model, rounds = federation(toy_client(liar(), dies(*DEAD)), "thin", in_order(0, silent))
    expected, _ = federation(toy_client(liar(), dies(*DEAD)), "thin", in_order(0))
    for name, values in expected.items():
        np.testing.assert_array_equal(model[name], values, err_msg=name)
    assert [(r.accepted, r.failed) for r in rounds] == [(4, 5), (3, 5), (3, 5)]
    assert [r.rejected["malformed"] for r in rounds] == [1, 1, 1]


def test_other_orders_change_the_last_bits_at_most():
    models = [federation(toy_client(liar(), dies(*DEAD)), "thin", in_order(seed))[0] for seed in (0, 1, 2)]
    for other in models[1:]:
        for name, values in models[0].items():
            np.testing.assert_allclose(other[name], values, rtol=1e-5, atol=1e-6)
