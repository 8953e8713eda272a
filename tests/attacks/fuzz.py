"""Mutants by the million, outside CI: python -m tests.attacks.fuzz --count 1000000 [--seed 0].

Every mutant is a golden frame with bytes changed, cut out, doubled or swapped with another frame's, and a checksum that
is right again. It must be refused with a FrameError or give finite values of the right shapes, within a second.
"""

import argparse
import random
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
import xxhash

import fedcomp
from fedcomp.errors import FrameError
from tests.golden.make import golden_model

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "v1").glob("*.fcz"))


def mutate(content, other, rng):
    """Return a damaged copy of `content`, some bytes of it taken from `other`."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        # Half of the damage goes to the header: it decides what the rest means.
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


def main():
    """Run, and print what became of the mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    spec = fedcomp.ModelSpec.of(golden_model())
    contents = [path.read_bytes()[:-8] for path in GOLDEN]
    outcomes, slowest, before = Counter(), 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(arguments.count):
        content = mutate(rng.choice(contents), rng.choice(contents), rng)
        started = time.perf_counter()
        try:
            decoded = fedcomp.decode(content + xxhash.xxh3_64_digest(content), spec)
        except FrameError as error:
            outcomes[error.reason] += 1
        else:
            if fedcomp.ModelSpec.of(decoded).fingerprint != spec.fingerprint:
                raise SystemExit(f"wrong shapes: {content.hex()}")
            if not all(np.isfinite(values).all() for values in decoded.values()):
                raise SystemExit(f"values are not finite: {content.hex()}")
            outcomes["decoded"] += 1
        slowest = max(slowest, time.perf_counter() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{arguments.count} mutants of {len(contents)} frames: {dict(outcomes)}")
    print(f"slowest {slowest * 1000:.0f} ms, peak memory grew by {grown / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
