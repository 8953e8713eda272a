"""A stranger's text can not leave its line, its terminal or its length."""

from hypothesis import given
from hypothesis import strategies as st

from fedcomp.printable import MAX_LENGTH, printable

ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@given(ANY_TEXT, st.integers(9, 60))
def test_what_comes_out_is_printable_short_and_final(text, length):
    shown = printable(text, length)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= length
    assert printable(shown, length) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=MAX_LENGTH))
def test_printable_text_stays_as_it_is(text):
    assert printable(text) == text


def test_what_can_steer_a_terminal_or_a_log_is_escaped():
    assert printable("a\nb\rc\td\x00\x07\x08\x1b[2J\x7f\x85\x9b") == r"a\nb\rc\td\x00\x07\x08\x1b[2J\x7f\x85\x9b"
    assert printable("\u2028\u2029\u202e\u200b\ufeff\ud800\U000e0001") == (
        r"\u2028\u2029\u202e\u200b\ufeff\ud800\U000e0001"
    )


def test_a_cut_is_told_and_costs_nothing_of_the_rest():
    class Watched(str):
        def __getitem__(self, key):
            assert key.stop == MAX_LENGTH
            return super().__getitem__(key)

    shown = printable(Watched("x" * 10_000_000))
    assert len(shown) == MAX_LENGTH
    assert shown.endswith("x... (cut)")
