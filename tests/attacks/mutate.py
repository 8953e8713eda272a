"""Damage: to the bytes of a frame, or to what they mean, so that it gets past the first checks."""

from dataclasses import replace

from fedcomp.codecs.coding.entropy import CODERS
from fedcomp.wire import Section, SectionKind, StageHeader, write_frame
from tests.attacks.forge import EDGES, STAGE_IDS, sections_fitting

_CHECKSUM_BYTES = 8


def mutate_bytes(content, other, rng):
    """Return a damaged copy of `content`, some bytes of it taken from `other`.

    Args:
        content: Bytes.
        other: Bytes of another frame.
        rng: `random.Random`.
    """
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        # Half of the damage goes to the first bytes: they decide what the rest means.
        start = rng.randrange(min(80, len(damaged)) if rng.random() < 0.5 else len(damaged))
        length = rng.choice((1, 1, 2, 4, 8, 32))
        kind = rng.randrange(5)
        if kind == 0:
            damaged[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[start : start + length] = rng.randbytes(length)
        elif kind == 2:
            del damaged[start : start + length]
        elif kind == 3:
            damaged[start:start] = damaged[start : start + length]
        else:
            damaged[start : start + length] = other[start : start + length]
        if not damaged:
            return b""
    return bytes(damaged)


def mutate_frame(frame, other, spec, rng):
    """Return the bytes of `frame`, without a checksum, after its stages or sections were changed.

    Args:
        frame: A parsed frame.
        other: Another one, to take parts from.
        spec: The receiver's model.
        rng: `random.Random`.
    """
    for _ in range(rng.choice((1, 1, 2, 3))):
        change = rng.choice(
            (_change_args, _change_args, _change_stages, _change_section, _change_section, _change_table)
        )
        frame = change(frame, other, rng)
    if rng.random() < 0.3 and (sections := sections_fitting(frame.stages, spec, rng)):
        frame = replace(frame, sections=sections)
    try:
        return write_frame(frame)[:-_CHECKSUM_BYTES]
    except (ValueError, OverflowError):  # a number that the header has no room for
        return b"fcz\x02"


def _change_args(frame, other, rng):
    if not frame.stages:
        return frame
    at = rng.randrange(len(frame.stages))
    stage = frame.stages[at]
    args = list(stage.args)
    kind = rng.randrange(4)
    if kind == 0 and args:
        args[rng.randrange(len(args))] = rng.choice(EDGES)
    elif kind == 1 and args:
        where = rng.randrange(len(args))
        args[where] = (args[where] + rng.choice((-1, 1, 7, -8))) % 2**64
    elif kind == 2:
        args.insert(rng.randint(0, len(args)), rng.choice(EDGES))
    elif args:
        del args[rng.randrange(len(args))]
    return replace(frame, stages=(*frame.stages[:at], StageHeader(stage.id, tuple(args)), *frame.stages[at + 1 :]))


def _change_stages(frame, other, rng):
    stages = list(frame.stages)
    kind = rng.randrange(5)
    at = rng.randint(0, len(stages))
    if kind == 0:
        stages.insert(at, StageHeader(rng.choice(STAGE_IDS), tuple(rng.choices(EDGES[:12], k=rng.randrange(4)))))
    elif kind == 1:
        del stages[at : at + 1]
    elif kind == 2:
        rng.shuffle(stages)
    elif kind == 3 and other.stages:
        stages.insert(at, rng.choice(other.stages))
    elif stages and other.stages:
        stages[rng.randrange(len(stages))] = rng.choice(other.stages)
    return replace(frame, stages=tuple(stages))


def _change_section(frame, other, rng):
    if not frame.sections:
        return frame
    at = rng.randrange(len(frame.sections))
    section = frame.sections[at]
    foreign = rng.choice(other.sections).data if other.sections else b""
    data = mutate_bytes(section.data, foreign, rng) if section.data else rng.randbytes(4)
    kind = rng.randrange(4)
    if kind == 0:
        section = Section(section.kind, rng.choice((*CODERS, 4, 2**32 - 1)), data)
    elif kind == 1:
        section = Section(section.kind, section.coder, foreign)
    else:
        section = Section(section.kind, section.coder, data)
    return replace(frame, sections=(*frame.sections[:at], section, *frame.sections[at + 1 :]))


def _change_table(frame, other, rng):
    sections = list(frame.sections)
    kind = rng.randrange(4)
    at = rng.randint(0, len(sections))
    if kind == 0 and other.sections:
        sections.insert(at, rng.choice(other.sections))
    elif kind == 1:
        del sections[at : at + 1]
    elif kind == 2:
        sections.insert(
            at, Section(rng.choice(list(SectionKind)), rng.randrange(4), rng.randbytes(rng.choice((0, 1, 40))))
        )
    else:
        rng.shuffle(sections)
    if rng.random() < 0.7:
        sections.sort(key=lambda section: section.kind)
    return replace(frame, sections=tuple(sections))
