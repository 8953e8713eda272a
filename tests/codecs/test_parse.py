"""Codec texts: what parses, and where a wrong one is wrong."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.errors import CodecSpecError


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "found the end"),
        ("topk|ternary", 0, "topk needs density"),
        ("ternary", 0, "needs a sparsifier"),
        ("topk(density=2)|ternary", 13, "at most 1"),
        ("topk(density=0)|ternary", 13, "more than 0"),
        ("topk(density=0.1)", 17, "quantizer is missing"),
        ("topk(density=0.1)|", 18, "found the end"),
        ("thim", 0, "did you mean 'thin'"),
        ("topk(densty=1)|ternary", 5, "did you mean 'density'"),
        ("uniform(bits=x)", 13, "an integer"),
        ("uniform(bits=4.5)", 13, "an integer"),
        ("uniform(bits=4, bits=5)", 16, "given twice"),
        ("uniform(bits=4, stochastic=1)", 27, "true or false"),
        ("uniform(bits=4, scale=row)", 22, "one of tensor, model"),
        ("uniform(bits=4) uniform", 16, "expected the end"),
        ("uniform(bits=4) | topk(density=.1)", 18, "can't stand here"),
        ("topk(density=.1) | topk(density=.1) | ternary", 19, "can't stand here"),
        ("uniform(bits=4", 14, "expected ','"),
        ("float32 $", 8, "no codec text has"),
    ],
)
def test_error_points_at_the_place(text, position, says):
    with pytest.raises(CodecSpecError, match="(?s).*" + says.replace("(", r"\(")) as caught:
        fedcomp.codec(text)
    assert caught.value.position == position
    assert str(caught.value).endswith("\n  " + " " * position + "^")


def test_spaces_and_number_forms_do_not_matter():
    assert fedcomp.codec(" topk( density = 1e-2 )|ternary ") == fedcomp.codec("topk(density=0.01) | ternary")


@given(st.text(max_size=40))
def test_any_text_parses_or_is_a_codec_spec_error(text):
    with contextlib.suppress(CodecSpecError):
        assert fedcomp.codec(str(fedcomp.codec(text))) == fedcomp.codec(text)
