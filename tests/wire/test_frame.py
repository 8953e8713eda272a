"""The frame: what goes in comes out, and nothing else is taken."""

import contextlib
import dataclasses

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.errors import ChecksumMismatch, ConfigError, EncodeError, FrameError, FrameMalformed, FrameTooLarge
from fedcomp.wire import Binding, Frame, FrameLimits, Section, SectionKind, StageHeader, read_frame, write_frame

LIMITS = FrameLimits()
FRAME = Frame(
    Binding(round=7, origin=11, base=13),
    spec=17,
    stages=(StageHeader(16, (3,)), StageHeader(35)),
    sections=(Section(SectionKind.POSITIONS, 0, b"abc"), Section(SectionKind.SIGNS, 1, b"\x01")),
)


def sealed(content):
    return content + xxhash.xxh3_64_digest(content)


u32 = st.integers(0, 2**32 - 1)
frames = st.builds(
    Frame,
    binding=st.builds(Binding, round=u32, origin=u32, base=u32),
    spec=u32,
    stages=st.lists(st.builds(StageHeader, u32, st.tuples(u32, u32)), max_size=3).map(tuple),
    sections=st.lists(st.builds(Section, st.sampled_from(SectionKind), u32, st.binary(max_size=9)), max_size=6).map(
        lambda sections: tuple(sorted({s.kind: s for s in sections}.values(), key=lambda s: s.kind))
    ),
)


def test_a_header_beyond_the_format_is_not_written():
    with pytest.raises(EncodeError, match="a frame holds 65535"):
        write_frame(dataclasses.replace(FRAME, stages=(StageHeader(16, (1,) * 70_000),)))


@given(frames)
def test_frames_come_back(frame):
    assert read_frame(write_frame(frame), LIMITS) == frame


@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_a_frame_error(data):
    for candidate in (data, sealed(b"fcz\x02" + data)):
        with contextlib.suppress(FrameError):
            read_frame(candidate, LIMITS)


def test_damage_is_noticed():
    data = bytearray(write_frame(FRAME))
    data[20] ^= 1
    with pytest.raises(ChecksumMismatch):
        read_frame(bytes(data), LIMITS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"zip\x01" + bytes(9), "begins with"),
        (b"fcz\x03" + bytes(9), "format version 3"),
        (b"fcz\x02\xff\x0f", "beyond the end"),
        (b"fcz\x02\x01\x00\xff", "does not parse"),
        (b"fcz\x02\x02\x00\x08\x00", "canonical"),
        (b"fcz\x02\x02\x00\x78\x01", "canonical"),
        (b"fcz\x02\x00\x00trailing", "declare 0 bytes"),
    ],
)
def test_malformed_frames_say_what_is_wrong(content, says):
    with pytest.raises(FrameMalformed, match=says):
        read_frame(sealed(content), LIMITS)


def test_sections_out_of_order_or_of_unknown_kind_are_refused():
    swapped = dataclasses.replace(FRAME, sections=FRAME.sections[::-1])
    with pytest.raises(FrameMalformed, match="not in order"):
        read_frame(write_frame(swapped), LIMITS)
    unknown = dataclasses.replace(FRAME, sections=(Section(99, 0, b""),))
    with pytest.raises(FrameMalformed, match="unknown"):
        read_frame(write_frame(unknown), LIMITS)


@pytest.mark.parametrize("limit", ["max_frame_bytes", "max_header_bytes", "max_sections"])
def test_caps_hold(limit):
    with pytest.raises(FrameTooLarge):
        read_frame(write_frame(FRAME), FrameLimits(**{limit: 1}))


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_cap_is_positive(value):
    with pytest.raises(ConfigError, match="max_norm"):
        FrameLimits(max_norm=value)
