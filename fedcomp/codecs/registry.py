"""Every codec stage, by its name in a codec text and by its id on the wire. A new stage is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.codecs.balance import Balance
from fedcomp.codecs.codebook import Codebook
from fedcomp.codecs.deadzone import DeadZone
from fedcomp.codecs.eden import Eden
from fedcomp.codecs.keep import Keep
from fedcomp.codecs.log import Log
from fedcomp.codecs.lowrank import LowRank
from fedcomp.codecs.nf4 import NF4
from fedcomp.codecs.plain import Float16, Float32
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.rotate import Rotate
from fedcomp.codecs.rows import Rows
from fedcomp.codecs.sign import Sign
from fedcomp.codecs.ternary import Ternary
from fedcomp.codecs.threshold import Threshold
from fedcomp.codecs.topk import TopK
from fedcomp.codecs.trainable import Trainable
from fedcomp.codecs.uniform import Uniform
from fedcomp.codecs.warmup import Warmup

if TYPE_CHECKING:
    from fedcomp.codecs.stage import Quantizer, Sparsifier, Stage, Transform

_SPARSIFIERS: tuple[type[Sparsifier], ...] = (TopK, RandK, Threshold, Rows)
_TRANSFORMS: tuple[type[Transform], ...] = (Rotate, LowRank)
_QUANTIZERS: tuple[type[Quantizer], ...] = (
    Float32,
    Float16,
    Uniform,
    Ternary,
    Sign,
    NF4,
    Log,
    Codebook,
    DeadZone,
    Eden,
)

SPARSIFIERS: dict[int, type[Sparsifier]] = {stage.wire_id: stage for stage in _SPARSIFIERS}
TRANSFORMS: dict[int, type[Transform]] = {stage.wire_id: stage for stage in _TRANSFORMS}
QUANTIZERS: dict[int, type[Quantizer]] = {stage.wire_id: stage for stage in _QUANTIZERS}
_ALL: tuple[type[Stage], ...] = (Trainable, Keep, Balance, Warmup, *_SPARSIFIERS, *_TRANSFORMS, *_QUANTIZERS)
STAGES: dict[str, type[Stage]] = {stage.name: stage for stage in _ALL}

NO_CODEC = "none"
"""The name that stands for no codec: plain float arrays are sent. Every other check and count stays the same."""

PRESETS: dict[str, str] = {
    "lossless": "float32",
    "q8": "keep(below=64) | uniform(bits=8)",
    "q4": "keep(below=64) | uniform(bits=4)",
    "thin": "lowrank(rank=16) | deadzone(step=1.0)",
    "ultra": "lowrank(rank=12) | deadzone(step=3.0)",
}
"""On the front of error over bytes of real updates: docs/codecs.md has the measurements."""
