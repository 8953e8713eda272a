"""Hostile frames that are well-formed: sections that fit their stages, numbers at the edges of what is read."""

import numpy as np

from fedcomp.codecs.coding.entropy import CODERS
from fedcomp.codecs.decoder import _expected_sections, _layout, _read_stages
from fedcomp.codecs.registry import QUANTIZERS, SPARSIFIERS, TRANSFORMS
from fedcomp.errors import FrameError
from fedcomp.wire import Binding, Frame, Section, StageHeader, write_frame

EDGES = sorted({n for bits in (0, 3, 7, 8, 15, 16, 20, 31, 32, 56, 63, 64) for n in (2**bits - 1, 2**bits)} - {2**64})
"""Counts around every power of two that a reader could trip over, up to the largest that a varint holds."""

STAGE_IDS = [1, 2, *SPARSIFIERS, *TRANSFORMS, *QUANTIZERS]
FLOATS = np.float32([0, 0.5, -1, 1e-45, -1e-45, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan])


def frame_of(spec, stages, *sections, binding=None):
    """Return a frame of (kind, coder, bytes) sections, put in order."""
    parts = tuple(sorted((Section(*section) for section in sections), key=lambda section: section.kind))
    return write_frame(Frame(binding or Binding(), spec.fingerprint, tuple(stages), parts))


def stage(wire_id, *args):
    """Return a stage header."""
    return StageHeader(wire_id, args)


def sections_fitting(stages, spec, rng):
    """Return sections of the lengths that the stages ask for, of values at the edges; none if they ask for too much.

    Args:
        stages: Stage headers.
        spec: The receiver's model.
        rng: `random.Random`.
    """
    try:
        read = _read_stages(tuple(stages))
        expected = _expected_sections(read, _layout(read, spec))
    except FrameError:
        return ()
    if sum(part.length for part in expected.values()) > 1 << 20:
        return ()
    return tuple(_section(kind, part, rng) for kind, part in sorted(expected.items()) if part.length)


def _section(kind, expected, rng):
    values = _values(np.dtype(expected.dtype), expected.length, rng)
    fitting = [0, 1, 2] if values.itemsize == 1 else [0, 3]
    coder = rng.choice(fitting)
    return Section(kind, coder, CODERS[coder].encode(values))


def _values(dtype, length, rng):
    generator = np.random.default_rng(rng.getrandbits(32))
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            edges = FLOATS.astype(dtype)
        finite = generator.normal(size=length).astype(dtype)
        return np.where(
            generator.random(length) < rng.choice((0, 0, 0.01, 0.5)), generator.choice(edges, length), finite
        )
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    top = rng.choice((1, 2, 3, 8, 16, 255, int(high)))
    return generator.integers(low if rng.random() < 0.1 else 0, min(top, int(high)), length, dtype, endpoint=True)
