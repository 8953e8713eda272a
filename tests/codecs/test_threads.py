"""The same bytes on any number of threads: no codec lets a library decide the order of a sum."""

import os
import subprocess
import sys

SCRIPT = """
import hashlib, sys
import numpy as np
import fedcomp

rng = np.random.default_rng(0)
delta = {"w": rng.laplace(size=(512, 700)).astype(np.float32), "b": rng.normal(size=20_000).astype(np.float32)}
for text in sys.argv[1:]:
    frame = fedcomp.codec(text).encode(delta, rng=np.random.default_rng(1)).frame
    values = fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))
    print(hashlib.sha256(frame + values["w"].tobytes()).hexdigest())
"""
CODECS = [
    "lowrank(rank=8) | deadzone(step=0.2)",
    "rotate | sign(unbiased=true)",
    "threshold(sigmas=2) | codebook(levels=8)",
    "rows(density=0.1) | sign",
    "topk(density=0.01) | ternary",
    "deadzone(step=1)",
]


def digests(num_threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(num_threads))
    done = subprocess.run([sys.executable, "-c", SCRIPT, *CODECS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_threads_do_not_change_a_byte():
    assert len(digests(1)) == len(CODECS)
    assert digests(1) == digests(2)
