"""Mutants that are kept where they reach new code, outside CI.

    pip install "atheris>=3"
    mkdir found known
    python -m tests.attacks.guided -max_total_time=900 -max_len=4096 -timeout=5 found tests/golden/v2

All of libFuzzer's options work. The decoder's Python code is instrumented; checksums are made right again, and half of
the mutants are changed in what they mean, not in their bytes. A find stops the run and is written to a file
`crash-...`: it belongs into `corpus/`. So does what reaches code that no golden frame reaches:

    cp tests/golden/v2/*.fcz known
    python -m tests.attacks.guided -merge=1 known found
"""

import random
import sys

import atheris

with atheris.instrument_imports(include=["fedcomp.codecs", "fedcomp.wire"]):
    import fedcomp
    from fedcomp.errors import FrameError
    from fedcomp.wire import FrameLimits, read_frame
    from tests.attacks.check import HANG_SECONDS, outcome_of, sealed
    from tests.attacks.fuzz import GOLDEN
    from tests.attacks.mutate import mutate_frame
    from tests.golden.make import golden_model

SPEC = fedcomp.ModelSpec.of(golden_model())
FRAMES = [read_frame(path.read_bytes(), FrameLimits()) for path in GOLDEN]


def check(data):
    """Let libFuzzer see one input: a frame whose last eight bytes are made its checksum."""
    outcome_of(sealed(data[:-8]), SPEC, hang_seconds=HANG_SECONDS)


def mutate(data, max_size, seed):
    """Return a mutant of at most `max_size` bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return sealed(atheris.Mutate(data[:-8], max(max_size - 8, 1)))[:max_size]
    try:
        frame = read_frame(sealed(data[:-8]), FrameLimits())
    except FrameError:
        frame = rng.choice(FRAMES)
    return sealed(mutate_frame(frame, rng.choice(FRAMES), SPEC, rng))[:max_size]


if __name__ == "__main__":
    # libFuzzer starts itself again by its first argument, for -merge and -jobs.
    sys.argv[0] = f"{sys.executable} -m tests.attacks.guided"
    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()
