"""Well-formed frames whose values no encoder writes."""

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs import decode_update
from fedcomp.errors import FrameError, FrameMalformed, InvalidValues
from fedcomp.wire import Binding, Frame, Section, SectionKind, StageHeader, write_frame

SPEC = fedcomp.ModelSpec.of({"w": np.zeros(10, np.float32)})
TERNARY = (StageHeader(16, (2,)), StageHeader(35))
UNIFORM = (StageHeader(34, (4, 0, 0)),)


def frame_of(stages, **arrays):
    kinds = sorted((SectionKind[name.upper()], np.asarray(values)) for name, values in arrays.items())
    sections = tuple(Section(kind, 0, values.tobytes()) for kind, values in kinds)
    return write_frame(Frame(Binding(), SPEC.fingerprint, stages, sections))


def ternary(positions=(1, 2), tables=(0.5,), signs=(0b10000000,)):
    return frame_of(TERNARY, positions=np.uint32(positions), tables=np.float32(tables), signs=np.uint8(signs))


def uniform(tables=(0.5,), values=(7,) * 10):
    return frame_of(UNIFORM, tables=np.float32(tables), values=np.uint8(values))


def dead_zone(step, last, places, symbols):
    table = np.concatenate([np.float32([step, last]).view(np.uint8), np.uint8(places)])
    return frame_of((StageHeader(40, (len(places) + 1,)),), tables=table, values=np.uint8(symbols))


def test_honest_frames_are_taken():
    assert fedcomp.decode(ternary(), SPEC)["w"].tolist() == [0, -0.5, 0, 0, 0.5, 0, 0, 0, 0, 0]
    assert not fedcomp.decode(uniform(), SPEC)["w"].any()


@pytest.mark.parametrize(
    "frame",
    [
        ternary(positions=(1, 8)),
        ternary(positions=(2**32 - 1, 2**32 - 1)),
        ternary(tables=(np.nan,)),
        ternary(tables=(np.inf,)),
        ternary(tables=(-0.5,)),
        ternary(signs=(0b00100000,)),
        uniform(tables=(np.nan,)),
        uniform(tables=(-1.0,)),
        uniform(tables=(1e38,)),
        uniform(values=(15,) * 10),
        uniform(values=(255,) * 10),
        dead_zone(step=3e38, last=1, places=(0, 255), symbols=[4] * 10),
        dead_zone(step=2e38, last=1, places=(255, 0), symbols=[4] * 10),
        frame_of((StageHeader(32),), values=np.float32([np.nan] * 10)),
        frame_of((StageHeader(33),), values=np.float16([np.inf] * 10)),
        frame_of((StageHeader(1, (64, 32)), StageHeader(32)), kept_floats=np.float32([np.inf] * 10)),
    ],
)
def test_bad_values_are_refused(frame):
    with pytest.raises(InvalidValues):
        fedcomp.decode(frame, SPEC)


@pytest.mark.parametrize(
    "stages",
    [
        (),
        (StageHeader(99),),
        (StageHeader(35),),
        (StageHeader(16, (2,)),),
        (StageHeader(16), StageHeader(35)),
        (StageHeader(16, (2, 3)), StageHeader(35)),
        (StageHeader(34),),
        (StageHeader(34, (1, 0, 0)),),
        (StageHeader(34, (17, 0, 0)),),
        (StageHeader(34, (0, 1, 0)),),
        (StageHeader(34, (4, 2, 0)),),
        (StageHeader(34, (4, 0, 3)),),
        (StageHeader(34, (4, 0, 3, 7)),),
        (StageHeader(34, (4, 0, 0, 64)),),
        (StageHeader(34, (4, 0, 4)),),
        (StageHeader(34, (2**63, 0, 0)),),
        (StageHeader(35, (1,)),),
        (StageHeader(32, (1,)),),
        (StageHeader(1, (5,)), StageHeader(32)),
        (StageHeader(1, (5, 64)), StageHeader(32)),
        (StageHeader(32), StageHeader(16, (2,))),
        (StageHeader(32), StageHeader(32)),
    ],
)
def test_stages_that_no_codec_has_are_refused(stages):
    with pytest.raises(FrameMalformed):
        fedcomp.decode(frame_of(stages, values=np.float32([0] * 10)), SPEC)


def test_sections_that_are_not_of_the_stages_are_refused():
    affine = (StageHeader(34, (4, 1, 0)),)
    extra = frame_of(affine, tables=np.float32([0, 1]), values=np.uint8([7] * 10), signs=np.uint8([0]))
    with pytest.raises(FrameMalformed, match="SIGNS"):
        fedcomp.decode(extra, SPEC)


def test_norm_cap():
    frame = frame_of((StageHeader(32),), values=np.float32([3, 4] + [0] * 8))
    fedcomp.decode(frame, SPEC, limits=fedcomp.FrameLimits(max_norm=5.0001))
    with pytest.raises(InvalidValues, match="norm 5"):
        fedcomp.decode(frame, SPEC, limits=fedcomp.FrameLimits(max_norm=4.9))


@pytest.mark.parametrize(
    ("dtype", "before", "step"),
    [
        ("bool", True, 1),
        ("bool", False, -1),
        ("int8", 1, 127),
        ("uint8", 1, 300),
        ("uint8", 1, -2),
        ("int32", 1, 2**40),
        ("int64", 2**63 - 1, 1),
        ("int64", -(2**63), -1),
        ("uint64", 0, -1),
        ("uint64", 2**64 - 1, 1),
        ("int64", 0, 2**62 + 1),
        ("int64", 0, -(2**63)),
    ],
)
def test_integers_that_leave_their_type_are_refused(dtype, before, step):
    base = {"n": np.full((2, 2), before, dtype), "w": np.zeros(3, np.float32)}
    delta = {"n": np.array([[0, 0], [step, 0]]), "w": np.zeros(3, np.float32)}
    update = decode_update(fedcomp.codec("lossless").encode(delta).frame, fedcomp.ModelSpec.of(base))
    with pytest.raises(InvalidValues, match="tensor 'n'"):
        update.check_integers(base, 2**62)


@pytest.mark.parametrize(
    ("dtype", "before", "after"),
    [("bool", 1, 0), ("int8", -128, 127), ("uint8", 0, 255), ("int64", 2**63 - 5, 2**63 - 1), ("uint64", 2**63, 2**62)],
)
def test_integers_that_stay_in_their_type_are_taken(dtype, before, after):
    base = {"n": np.array(before, dtype)}
    delta = fedcomp.types.subtract_models({"n": np.array(after, dtype)}, base)
    update = decode_update(fedcomp.codec("lossless").encode(delta).frame, fedcomp.ModelSpec.of(base))
    update.check_integers(base, 2**62)


def test_every_refusal_has_a_reason_word():
    def leaves(cls):
        return [leaf for sub in cls.__subclasses__() for leaf in leaves(sub)] or [cls]

    assert all(leaf.reason and leaf.reason != FrameError.reason for leaf in leaves(FrameError))
