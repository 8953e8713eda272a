"""Mutants by the million, outside CI: python -m tests.attacks.fuzz --count 1000000 [--seed 0] [--first 0].

Every mutant comes from a golden frame; with --structured from frames whose rows and columns differ, so that symbols are
grouped and positions cropped; or with --rows 1000 from frames of a larger model, whose sections the entropy coders
cut into blocks: bytes damaged, or stages and sections changed, and a checksum that is right again. What must hold is in
`check`. A mutant follows from the seed and its number alone, so one that ends the process can be made again:
--first NUMBER --count 1.
"""

import argparse
import multiprocessing
import random
import signal
from collections import Counter, deque
from pathlib import Path

import numpy as np

import fedcomp
from fedcomp.wire import FrameLimits, read_frame
from tests.attacks.check import HANG_SECONDS, Violation, outcome_of, sealed
from tests.attacks.mutate import mutate_bytes, mutate_frame
from tests.golden.make import CODECS, KNOWING, STRUCTURED, golden_model, knowing_moment, moment, structured_model

GOLDEN = [Path(__file__).parents[1] / "golden" / "v2" / f"{name}.fcz" for name in CODECS]
_STUCK_SECONDS = 30


def mutant(seed, number, frames, spec):
    """Return mutant `number`, with its checksum."""
    rng = random.Random(f"{seed} {number}")
    frame, other = rng.choice(frames), rng.choice(frames)
    if rng.random() < 0.4:
        return sealed(mutate_bytes(frame[:-8], other[:-8], rng))
    limits = FrameLimits()
    content = mutate_frame(read_frame(frame, limits), read_frame(other, limits), spec, rng)
    if rng.random() < 0.2:
        content = mutate_bytes(content, other, rng)
    return sealed(content)


def frames_of(arguments):
    """Return the golden frames and their model, or frames of another by every codec; and what the receiver holds."""
    if arguments.knowing:
        delta, context = structured_model(), knowing_moment()
        frames = [fedcomp.codec(text).encode(delta, context=context).frame for text in KNOWING.values()]
        return frames, fedcomp.ModelSpec.of(delta), context
    if arguments.structured:
        delta = structured_model()
    elif arguments.rows:
        weight = np.random.default_rng(0).laplace(size=(arguments.rows, 100)).astype(np.float32)
        delta = {"w": weight, "n": np.array(1)}
    else:
        return [path.read_bytes() for path in GOLDEN], fedcomp.ModelSpec.of(golden_model()), None
    codecs = map(fedcomp.codec, [*CODECS.values(), *STRUCTURED.values()])
    frames = [codec.encode(delta, rng=np.random.default_rng(1), context=moment()).frame for codec in codecs]
    return frames, fedcomp.ModelSpec.of(delta), None


def run(arguments, current):
    """Check the mutants, and print what became of them."""
    frames, spec, context = frames_of(arguments)
    for frame in frames * 2:  # what is loaded or kept for later is not the first mutants' fault
        outcome_of(frame, spec, context=context)
    outcomes, costs, slowest, largest, found = Counter(), deque(maxlen=1), 0.0, 0, 0
    for number in range(arguments.first, arguments.first + arguments.count):
        current.value = number
        data = mutant(arguments.seed, number, frames, spec)
        signal.alarm(_STUCK_SECONDS)
        try:
            outcomes[outcome_of(data, spec, context=context, hang_seconds=HANG_SECONDS, costs=costs)] += 1
        except Violation as violation:
            found += 1
            print(f"mutant {number}: {violation}: {data.hex()}", flush=True)
        slowest, largest = max(slowest, costs[0][0]), max(largest, costs[0][1])
        if (number + 1) % 100_000 == 0:
            print(f"{number + 1}: {dict(outcomes)}", flush=True)
    print(f"{arguments.count} mutants of {len(frames)} frames: {dict(outcomes)}, {found} break the property")
    print(f"slowest {slowest * 1000:.0f} ms, most memory {largest / 2**20:.1f} MiB above what there was")
    raise SystemExit(bool(found))


def main():
    """Run in a process of its own, so that its end can be told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--structured", action="store_true")
    parser.add_argument("--knowing", action="store_true")
    arguments = parser.parse_args()
    current = multiprocessing.Value("q", -1, lock=False)
    process = multiprocessing.Process(target=run, args=(arguments, current))
    process.start()
    process.join()
    if process.exitcode < 0:
        print(f"mutant {current.value} ended the process by signal {-process.exitcode}")
    raise SystemExit(process.exitcode != 0)


if __name__ == "__main__":
    main()
