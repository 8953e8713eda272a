"""Text and tables: the objectives, the training core and the codecs take them as they are."""

import pytest
import torch

from simulations import next_character, table


def test_next_characters_are_learned_and_fewer_bytes_sent():
    outcomes = next_character.run(num_rounds=2, num_documents=3)
    plain, compressed = outcomes.values()
    assert min(plain.accuracy, compressed.accuracy) > 0.1  # the most common character, the space, has an eighth
    assert compressed.uplink_bytes * 10 < plain.uplink_bytes
    assert compressed.downlink_bytes * 3 < plain.downlink_bytes


def test_windows_are_followed_by_what_follows():
    text = next_character.documents()[0]
    batch = next_character.windows(text)
    assert torch.equal(batch.inputs[:, 1:], batch.labels[:, :-1])
    assert torch.equal(batch.inputs[1:, 0], batch.labels[:-1, -1])
    assert int(text.max()) < next_character.VOCABULARY


def test_a_table_is_learned_with_a_tenth_of_the_labels():
    outcomes = table.run(num_rounds=3)
    assert all(outcome.accuracy > 0.8 for outcome in outcomes.values())
    plain, compressed, _ = outcomes.values()
    assert compressed.uplink_bytes * 4 < plain.uplink_bytes


@pytest.mark.parametrize("view", ["weak", "strong"])
def test_views_of_rows_are_seeded_and_each_row_has_its_own(view):
    inputs = torch.ones(50, 6)
    first, same = (getattr(table.RowViews(), view)(inputs, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, same)
    assert len({row.numpy().tobytes() for row in first}) == 50


def test_a_view_of_strength_0_is_the_row_itself():
    inputs = torch.randn(5, 6)
    assert torch.equal(table.RowViews(noise=0.0, dropped=0.0).strong(inputs, torch.Generator()), inputs)
