"""What a client takes of a server's orders: no more than an honest server asks for."""

import pytest

from fedcomp.errors import FrameMalformed
from fedcomp.flower import to_array_record
from fedcomp.flower.client.receiving import Receiver
from fedcomp.types import fingerprint_model
from fedcomp.wire import FrameLimits
from tests.flower.toy import MODEL, compressed, run_rounds, toy_client, toy_inner

INITIAL = fingerprint_model(MODEL)


def initial(_message, _context):
    return MODEL


@pytest.mark.parametrize("wanted", [(INITIAL,) * 2, (INITIAL,) * 1000, (1, 2, INITIAL), tuple(range(100_000))], ids=len)
def test_references_that_no_server_names_are_refused_before_any_is_looked_for(wanted):
    receiver = Receiver(lambda *_: pytest.fail("was looked for"), FrameLimits(), 1 << 20)
    with pytest.raises(FrameMalformed, match=f"{len(wanted)} references"):
        receiver.references(wanted, {1: MODEL, 2: MODEL}, None, None)


def test_references_of_a_server_are_found():
    receiver = Receiver(initial, FrameLimits(), 1 << 20)
    assert receiver.references((1, INITIAL), {1: {}}, None, None) == ({}, MODEL)


def test_a_server_that_repeats_a_reference_is_told():
    strategy, rounds = compressed(toy_inner(num_nodes=1), codec="topk(density=0.1) | ternary", initial=MODEL)
    honest = strategy._references
    strategy._references = lambda client: honest(client) * 3
    run_rounds(strategy, toy_client(initial=initial), num_nodes=1, num_rounds=2)
    assert [each.accepted for each in rounds] == [1, 0]
    assert "the server names 3 references, 1 of them different" in rounds[1].complaints[0]


@pytest.mark.parametrize(
    "wrong", [to_array_record(MODEL), list(MODEL.values()), {name: values.tolist() for name, values in MODEL.items()}]
)
def test_an_initial_model_that_is_none_costs_one_round_and_not_all(wrong, caplog):
    strategy, rounds = compressed(codec="q4", downlink="q4", initial=MODEL)
    run_rounds(strategy, toy_client(initial=lambda *_: wrong), num_rounds=3)
    assert [each.accepted for each in rounds] == [0, 4, 4]
    assert "the initial model could not be built: it is" in caplog.text
