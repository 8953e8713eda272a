"""Random streams do not depend on each other."""

from hypothesis import given
from hypothesis import strategies as st

from fedcomp.seeding import derive_rng, derive_seed

paths = st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4).map(tuple)


@given(st.integers(), paths)
def test_a_seed_fits_torch_and_repeats(seed, path):
    assert 0 <= derive_seed(seed, *path) < 2**63
    assert derive_rng(seed, *path).random() == derive_rng(seed, *path).random()


@given(st.integers(), paths, paths)
def test_purposes_do_not_share_a_stream(seed, one, other):
    assert (derive_seed(seed, *one) == derive_seed(seed, *other)) == (repr(one) == repr(other))


def test_seeds_stay_what_they_were():
    assert derive_seed(0, 1, "codec") == 6911739334612366672
