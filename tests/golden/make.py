"""Write the golden frames that are not there yet: python tests/golden/make.py."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import fedcomp
from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.sections import code_positions, code_signs
from fedcomp.wire import VERSION, Frame, Section, SectionKind, StageHeader, write_frame

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
}
"""Codecs whose frames hold sections that a small model never has."""


def structured_model():
    """Return an update with rows and columns of all sizes, many of them dead, and signs that go by rows."""
    rng = np.random.default_rng(2027)
    rows, columns = (np.exp2(rng.uniform(-9, 0, n)) * (rng.random(n) > 0.4) for n in (96, 80))
    signs = np.where(rng.random((96, 80)) < 0.9, np.where(rng.random((96, 1)) < 0.5, 1, -1), 0.5)
    return {
        "fc.weight": (np.abs(rng.laplace(size=(96, 80))) * np.outer(rows, columns) * signs).astype(np.float32),
        "fc.bias": (rng.normal(size=96) * 0.01).astype(np.float32),
    }


def golden_frames():
    """Return (name, codec's text, update) of all golden frames."""
    small = [(name, text, golden_model()) for name, text in CODECS.items()]
    for _, text, delta in small:
        if "trainable" in text:
            delta["fc.weight"][:] = 0
    return small + [(name, text, structured_model()) for name, text in STRUCTURED.items()]


def golden_model():
    """Return the update that most golden frames hold."""
    rng = np.random.default_rng(2026)
    return {
        "conv.weight": (rng.laplace(size=(8, 4, 3, 3)) * 0.01).astype(np.float32),
        "conv.bias": (rng.normal(size=8) * 0.01).astype(np.float32),
        "norm.num_batches_tracked": np.array(41),
        "fc.weight": (rng.normal(size=(10, 64)) * 0.003).astype(np.float32),
    }


def contextual_context():
    """Return the context of the frame whose positions are coded by how the model has moved."""
    update = structured_model()
    rng = np.random.default_rng(2028)
    start = {name: rng.normal(size=values.shape).astype(np.float32) for name, values in update.items()}
    now = {name: start[name] + values * (np.abs(values) > 1e-3) for name, values in update.items()}
    return fedcomp.CodingContext(run="golden", sender="client", round=5, base=0x1234, model=now, references=(start,))


def contextual_positions():
    """Return the coordinates that this frame selects: the larger ones of the update, for the most part."""
    flat = np.concatenate([values.reshape(-1) for values in structured_model().values()])
    noise = np.random.default_rng(2029).exponential(size=flat.size)
    return np.sort(np.argsort(-np.abs(flat) * noise, kind="stable")[:300]), flat


def contextual_frame():
    """Return a frame with positions as intervals, and signs by channel."""
    context, spec = contextual_context(), fedcomp.ModelSpec.of(structured_model())
    group = layout_of(spec, 0).coded
    positions, flat = contextual_positions()
    moved = context.known(group).moved[0]
    sections = [
        *code_positions(positions, group.cuts, moved),
        Section(SectionKind.TABLES, 0, np.float32([0.5]).tobytes()),
        code_signs(np.packbits(flat[positions] < 0), group.cuts.at(positions)),
    ]
    stages = StageHeader(16, (positions.size,)), StageHeader(35, ())
    return write_frame(Frame(context.binding, spec.fingerprint, stages, tuple(sections)))


def main():
    """Write a frame, and what it decodes to, for each codec that has none."""
    folder = Path(__file__).parent / f"v{VERSION}"
    folder.mkdir(exist_ok=True)
    context = fedcomp.CodingContext(run="golden", sender="client", round=5, base=0x1234)
    for name, text, delta in golden_frames():
        if (folder / f"{name}.fcz").exists():
            continue
        frame = fedcomp.codec(text).encode(delta, rng=np.random.default_rng(1), context=context).frame
        (folder / f"{name}.fcz").write_bytes(frame)
        save_file(fedcomp.decode(frame, fedcomp.ModelSpec.of(delta)), folder / f"{name}.safetensors")
    if not (folder / "contextual.fcz").exists():
        (folder / "contextual.fcz").write_bytes(contextual_frame())


if __name__ == "__main__":
    main()
