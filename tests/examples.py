"""Examples made from the registry, so that a new stage is under every contract test with its registry line."""

from __future__ import annotations

import typing
from dataclasses import MISSING, fields, replace

import ml_dtypes
import numpy as np

from fedcomp.codecs import Codec
from fedcomp.codecs.registry import QUANTIZERS, SPARSIFIERS, TRANSFORMS
from fedcomp.codecs.stages.balance import Balance
from fedcomp.codecs.stages.keep import Keep
from fedcomp.codecs.stages.plain import Float32
from fedcomp.codecs.stages.ternary import Ternary
from fedcomp.codecs.stages.trainable import Trainable
from fedcomp.codecs.stages.uniform import Uniform
from fedcomp.codecs.stages.warmup import Warmup
from fedcomp.errors import UsageError


def examples_of(stage):
    """Return instances of a stage class: a base, then each parameter at its ends and in the middle."""
    types = typing.get_type_hints(stage)
    values = {f.name: _values_of(f, types[f.name]) for f in fields(stage)}
    base = {f.name: values[f.name][0] if f.default is MISSING else f.default for f in fields(stage)}
    changed = [base | {name: value} for name, options in values.items() for value in options]
    return list(dict.fromkeys(filter(None, (_try_make(stage, arguments) for arguments in [base, *changed]))))


def _try_make(stage, arguments):
    try:
        return stage(**arguments)
    except UsageError:  # a value in its range, but impossible beside the others
        return None


def _values_of(field, kind):
    limits = field.metadata
    if kind is bool:
        return [False, True]
    if limits["choices"]:
        return list(limits["choices"])
    low = limits["minimum"] if limits["above"] is None else limits["above"]
    high = limits["maximum"]
    if kind is int:
        return [(low + high) // 2, low, high]
    return [low + 0.3 * (high - low), low + 0.01 * (high - low), high]


def all_codecs():
    """Return every quantizer example with no and with one sparsifier, and every sparsifier example with two quantizers.

    Each pair of them also around each transform, some around each example of it, and some behind the stages that need
    no others.
    """
    sparsifiers = [example for stage in SPARSIFIERS.values() for example in examples_of(stage)]
    quantizers = [example for stage in QUANTIZERS.values() for example in examples_of(stage)]
    pairs = [(None, q) for q in quantizers if not q.needs_sparsifier]
    pairs += [(sparsifiers[0], q) for q in quantizers]
    pairs += [(s, q) for s in sparsifiers for q in (Ternary(), Uniform(bits=4), Float32())]
    plain = [Codec(quantizer, sparsifier) for sparsifier, quantizer in dict.fromkeys(pairs)]
    transforms = [examples_of(stage) for stage in TRANSFORMS.values()]
    inner = [(s, q) for s, q in pairs if s in (None, sparsifiers[0])]
    around = [(s, base, q) for base, *_ in transforms for s, q in inner]
    around += [(s, other, q) for _, *others in transforms for other in others for s, q in inner[::5]]
    made = (_try_make(Codec, {"quantizer": q, "sparsifier": s, "transform": t}) for s, t, q in around)
    plain += filter(None, made)
    warm = [codec for codec in plain if Warmup.applies_to(codec.sparsifier)]
    return [
        *plain,
        *(replace(codec, keep=Keep(below=4)) for codec in plain[::11]),
        *(replace(codec, trainable=Trainable()) for codec in plain[::11]),
        *(replace(codec, balance=Balance()) for codec in plain[::11]),
        *(replace(codec, warmup=warmup) for codec, warmup in zip(warm[::5], examples_of(Warmup) * 9, strict=False)),
    ]


def some_delta(seed=0, scale=1e-2):
    """Return an update with every kind of tensor: matrix, vector, scalar, empty, counter."""
    rng = np.random.default_rng(seed)
    return {
        "weight": (rng.laplace(size=(17, 9)) * scale).astype(np.float32),
        "bias": (rng.normal(size=3) * scale).astype(np.float32),
        "scale": np.float32(rng.normal() * scale).reshape(()),
        "empty": np.zeros((0, 4), np.float32),
        "kernel": (rng.normal(size=(2, 3, 3, 3)) * scale).astype(np.float32),
        "counter": np.array(rng.integers(-5, 1 << 40)),
    }


CORNER_CASES = {
    "mixed": some_delta(),
    "no tensors": {},
    "only empty": {"w": np.zeros((0,), np.float32)},
    "one element": {"w": np.float32([0.5])},
    "scalar": {"w": np.array(-0.5, np.float32)},
    "zeros": {"w": np.zeros((5, 7), np.float32)},
    "constant": {"w": np.full(40, 0.25, np.float32)},
    "negative constant": {"w": np.full(40, -0.25, np.float32)},
    "one spike": {"w": np.float32([0] * 30 + [1] + [0] * 9)},
    "huge": {"w": np.float32([3.4e38, -3.4e38, 1.0, 0.0, 3.4028235e38])},
    "denormal": {"w": np.float32([1e-45, -1e-42, 0.0, 1e-39, 3e-45])},
    "wide": {"w": np.float32([1e-30, 1e30, -1e-30, 1.0, 0.0])},
    "many ties": {"w": np.tile(np.float32([0.5, -0.5, 0.25]), 20)},
    "only integers": {"n": np.arange(-3, 9)},
    "float64": {"w": np.linspace(-1, 1, 11)},
    "float16": {"w": np.linspace(-1, 1, 11).astype(np.float16)},
    "bfloat16": {"w": np.linspace(-1, 1, 12).astype(ml_dtypes.bfloat16).reshape(3, 4)},
    "five axes": {"w": np.linspace(-1, 1, 48, dtype=np.float32).reshape(2, 3, 2, 2, 2)},
    "big-endian": {"w": np.linspace(-1, 1, 12).astype(">f4").reshape(3, 4)},
}
