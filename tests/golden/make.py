"""Write the golden frames that are not there yet: python tests/golden/make.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import fedcomp
from fedcomp.wire import VERSION

CODECS = {
    "float32": "float32",
    "float16": "float16",
    "uniform-4-stochastic": "uniform(bits=4, stochastic=true)",
    "uniform-12-model": "uniform(bits=12, scale=model)",
    "keep-uniform-8": "keep(below=64) | uniform(bits=8)",
    "uniform-affine-3": "uniform(bits=3, affine=true)",
    "uniform-channel": "uniform(bits=6, scale=channel)",
    "uniform-block": "uniform(bits=5, scale=block, block=50)",
    "sign": "sign",
    "rotate-sign": "rotate | sign(unbiased=true)",
    "rotate-uniform": "topk(density=0.5) | rotate | uniform(bits=4)",
    "nf4": "nf4",
    "log": "log(bits=4)",
    "codebook": "codebook(levels=8)",
    "codebook-quantile": "topk(density=0.3) | codebook(levels=4, fit=quantile, scale=model)",
    "deadzone": "deadzone(step=1.5)",
    "eden": "rotate | eden(bits=2)",
    "lowrank-uniform": "lowrank(rank=2) | uniform(bits=8, scale=channel)",
    "trainable-keep-nf4": "trainable | keep(below=64) | nf4",
    "rows-uniform": "rows(density=0.1) | uniform(bits=8)",
    "randk-float16": "randk(density=0.1) | float16",
    "threshold-sign-model": "threshold(sigmas=2) | sign(scale=model)",
    "topk-tensor-ternary": "topk(density=0.02, scope=tensor) | ternary",
    "topk-ternary": "topk(density=0.05) | ternary",
    "warmup-topk-ternary": "warmup(rounds=8) | topk(density=0.01) | ternary",
    "keep-topk-uniform-4": "keep(below=64) | topk(density=0.05) | uniform(bits=4)",
}


STRUCTURED = {
    "grouped-uniform-8": "uniform(bits=8)",
    "grouped-uniform-12": "uniform(bits=12)",
    "grouped-deadzone": "keep(below=128) | deadzone(step=0.02, largest=127)",
    "cropped-ternary": "topk(density=0.04) | ternary",
    "cropped-split-uniform-6": "topk(density=0.04) | uniform(bits=6)",
    "scattered-deadzone": "deadzone(step=2)",
    "balance-lowrank-deadzone": "balance(power=0.5) | lowrank(rank=3) | deadzone(step=1)",
}
"""Codecs whose frames hold sections that a small model never has."""

KNOWING = {
    "known-topk-ternary": "topk(density=0.04) | ternary",
    "known-lowrank-deadzone": "lowrank(rank=3, directions=4) | deadzone(step=1)",
}
"""Codecs that make use of what both ends hold."""


def structured_model():
    """Return an update with rows and columns of all sizes, many of them dead, and signs that go by rows."""
    rng = np.random.default_rng(2027)
    rows, columns = (np.exp2(rng.uniform(-9, 0, n)) * (rng.random(n) > 0.4) for n in (96, 80))
    signs = np.where(rng.random((96, 80)) < 0.9, np.where(rng.random((96, 1)) < 0.5, 1, -1), 0.5)
    return {
        "fc.weight": (np.abs(rng.laplace(size=(96, 80))) * np.outer(rows, columns) * signs).astype(np.float32),
        "fc.bias": (rng.normal(size=96) * 0.01).astype(np.float32),
    }


def golden_model():
    """Return the update that most golden frames hold."""
    rng = np.random.default_rng(2026)
    return {
        "conv.weight": (rng.laplace(size=(8, 4, 3, 3)) * 0.01).astype(np.float32),
        "conv.bias": (rng.normal(size=8) * 0.01).astype(np.float32),
        "norm.num_batches_tracked": np.array(41),
        "fc.weight": (rng.normal(size=(10, 64)) * 0.003).astype(np.float32),
    }


def moment():
    """Return the context of most golden frames."""
    return fedcomp.CodingContext(run="golden", sender="client", round=5, base=0x1234)


def knowing_moment():
    """Return a context with a model that has moved as the structured update will move it."""
    update = structured_model()
    rng = np.random.default_rng(2028)
    start = {name: rng.normal(size=values.shape).astype(np.float32) for name, values in update.items()}
    now = {name: start[name] + values * (np.abs(values) > 1e-3) for name, values in update.items()}
    return replace(moment(), model=now, references=(start,))


def golden_frames():
    """Return (name, codec's text, update, context) of all golden frames."""
    small = [(name, text, golden_model(), moment()) for name, text in CODECS.items()]
    for _, text, delta, _ in small:
        if "trainable" in text:
            delta["fc.weight"][:] = 0
    structured = [(name, text, structured_model(), moment()) for name, text in STRUCTURED.items()]
    knowing = [(name, text, structured_model(), knowing_moment()) for name, text in KNOWING.items()]
    return small + structured + knowing


def main():
    """Write a frame, and what it decodes to, for each codec that has none."""
    folder = Path(__file__).parent / f"v{VERSION}"
    folder.mkdir(exist_ok=True)
    for name, text, delta, context in golden_frames():
        if (folder / f"{name}.fcz").exists():
            continue
        frame = fedcomp.codec(text).encode(delta, rng=np.random.default_rng(1), context=context).frame
        (folder / f"{name}.fcz").write_bytes(frame)
        save_file(fedcomp.decode(frame, fedcomp.ModelSpec.of(delta), context=context), folder / f"{name}.safetensors")


if __name__ == "__main__":
    main()
