"""The greedy path: bits only fall, bytes too, the harmless goes first, and it ends before the model is broken."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fedcomp.explaining import LayerDamage
from fedcomp.tuning import bit_path, points_along

WIDTHS = (8, 4, 2)


def row(layer, bits, drop, num_weights=800, flips=0.0):
    return LayerDamage(
        layer=layer,
        change=f"{bits} bits",
        bits=bits,
        num_weights=num_weights,
        num_bytes=num_weights * bits // 8,
        accuracy_drop=drop,
        flip_rate=flips,
        sqnr_db=20.0,
    )


@st.composite
def tables(draw):
    drops = st.floats(-0.01, 0.06)
    layers = draw(st.lists(st.integers(100, 9000), min_size=1, max_size=5))
    return [row(f"{i}.weight", bits, draw(drops), size) for i, size in enumerate(layers) for bits in WIDTHS]


@given(tables(), st.integers(1, 6))
def test_bits_and_bytes_fall(table, count):
    path = bit_path(table)
    assert set(path[0].bits.values()) == {8}
    for before, after in pairwise(path):
        assert after.num_bytes < before.num_bytes
        assert sum(after.bits[layer] != before.bits[layer] for layer in before.bits) == 1
        assert all(after.bits[layer] <= before.bits[layer] for layer in before.bits)
    drops = {(each.layer, each.bits): each.accuracy_drop for each in table}
    for point in path[1:]:
        assert sum(max(drops[now], 0) for now in point.bits.items()) <= 0.05
    some = points_along(path, count)
    assert len(some) <= count
    assert all(point in path[1:] for point in some)
    assert [point.num_bytes for point in some] == sorted({point.num_bytes for point in some}, reverse=True)
    assert some[-1:] == path[1:][-1:]


def test_what_costs_least_a_byte_goes_first():
    table = [row("a", 8, 0.0), row("a", 4, 0.01), row("b", 8, 0.0, 8000), row("b", 4, 0.02, 8000)]
    assert [point.bits for point in bit_path(table)] == [{"a": 8, "b": 8}, {"a": 8, "b": 4}, {"a": 4, "b": 4}]


def test_of_equals_the_one_that_flips_fewer_classes_goes_first():
    table = [row(name, bits, 0.0, flips=flips / bits) for name, flips in (("a", 0.2), ("b", 0.1)) for bits in (8, 4)]
    assert bit_path(table)[1].bits == {"a": 8, "b": 4}


def test_one_width_is_no_path():
    assert points_along(bit_path([row("a", 8, 0.0)]), 4) == []
