"""What the entropy coders' strict readers take: everything that the encoders write, in one piece or many."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.codecs.coding.entropy import OpenZLFSE, Pcodec
from fedcomp.codecs.stage import ArraySpec
from fedcomp.errors import FrameMalformed

SIZES = [17, 1000, 32_768, 32_769, 100_000, 262_144, 262_145, 600_000]
RNG = np.random.default_rng(0)
SYMBOLS = {
    "constant": lambda n: np.full(n, 7),
    "two": lambda n: RNG.integers(0, 2, n) * 9,
    "few": lambda n: RNG.integers(0, 5, n),
    "bell": lambda n: RNG.binomial(14, 0.5, n),
    "skewed": lambda n: RNG.random(n) < 0.01,
    "noise": lambda n: RNG.integers(0, 256, n),
    "parts": lambda n: np.concatenate([RNG.integers(0, m, -(-n // 4)) for m in (1, 3, 256, 40)])[:n],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", SYMBOLS)
def test_openzl_comes_back(kind, size):
    symbols = SYMBOLS[kind](size).astype(np.uint8)
    decoded = OpenZLFSE().decode(OpenZLFSE().encode(symbols), ArraySpec("uint8", size))
    np.testing.assert_array_equal(decoded, symbols)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", SYMBOLS)
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float16", "float32", "int64"])
def test_pcodec_comes_back(kind, size, dtype):
    numbers = SYMBOLS[kind](size).astype(dtype)
    decoded = Pcodec().decode(Pcodec().encode(numbers), ArraySpec(dtype, size))
    np.testing.assert_array_equal(decoded, numbers, strict=True)


LEFT_BEHIND = """
import ctypes
import numpy as np
from fedcomp.codecs.coding import entropy
entropy.OpenZLFSE().encode(np.zeros(100, np.uint8))
ctypes.pythonapi.Py_IncRef(ctypes.py_object(vars(entropy)))  # as with torch and Flower, which leave modules behind
"""


def test_nothing_is_printed_about_leaks_at_exit():
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr


@given(st.binary(min_size=1, max_size=2000))
def test_any_symbols_come_back(content):
    symbols = np.frombuffer(content, np.uint8)
    decoded = OpenZLFSE().decode(OpenZLFSE().encode(symbols), ArraySpec("uint8", symbols.size))
    assert decoded.tobytes() == content


@settings(max_examples=300)
@given(st.sampled_from(["constant", "few", "bell"]), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255))))
def test_damaged_headers_are_no_other_error(kind, changes):
    """The reader's own arithmetic, before the library sees a byte."""
    size = 70_000
    data = bytearray(OpenZLFSE().encode(SYMBOLS[kind](size).astype(np.uint8)))
    for position, byte in changes:
        data[position % len(data)] = byte
    with contextlib.suppress(FrameMalformed):
        assert OpenZLFSE().decode(bytes(data), ArraySpec("uint8", size)).size == size


def test_pcodec_chunks_are_few():
    """Chunks of one number each would be decoded one by one."""
    numbers = np.arange(2, dtype=np.uint32)
    one = Pcodec().encode(numbers[:1])
    two = bytearray(Pcodec().encode(numbers))
    start = two.index(b"\x01\x01\x00\x00")
    chunk = one[one.index(b"\x01\x00\x00\x00") : -1]
    with pytest.raises(FrameMalformed, match="chunk of 1 numbers"):
        Pcodec().decode(bytes(two[:start] + chunk * 2 + b"\0"), ArraySpec("uint32", 2))
