"""The same bytes on any number of threads and any processor: no codec lets a library decide how a sum is rounded."""

import os
import subprocess
import sys

import numpy as np

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
    "rotate | eden(bits=3)",
    "threshold(sigmas=2) | codebook(levels=8)",
    "codebook(levels=16)",
    "codebook(levels=4, fit=quantile)",
    "rows(density=0.1) | sign",
    "topk(density=0.01) | ternary",
    "deadzone(step=1)",
    "uniform(bits=5, stochastic=true)",
    "uniform(bits=6, affine=true, scale=channel)",
    "log",
    "nf4",
]


def digests(**variables):
    environment = os.environ | variables
    done = subprocess.run([sys.executable, "-c", SCRIPT, *CODECS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def threads(count):
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))


def test_threads_do_not_change_a_byte():
    assert len(digests(**threads(1))) == len(CODECS)
    assert digests(**threads(1)) == digests(**threads(2))


def test_the_processor_does_not_change_a_byte():
    """NumPy without any of the instructions that it chooses by the processor it finds."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    assert digests() == digests(NPY_DISABLE_CPU_FEATURES=" ".join(found))
