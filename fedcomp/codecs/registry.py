"""Every codec stage, by its name in a codec text and by its id on the wire. A new stage is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.codecs.stages.balance import Balance
from fedcomp.codecs.stages.codebook import Codebook
from fedcomp.codecs.stages.deadzone import DeadZone
from fedcomp.codecs.stages.eden import Eden
from fedcomp.codecs.stages.keep import Keep
from fedcomp.codecs.stages.log import Log
from fedcomp.codecs.stages.lowrank import LowRank
from fedcomp.codecs.stages.nf4 import NF4
from fedcomp.codecs.stages.plain import Float16, Float32
from fedcomp.codecs.stages.randk import RandK
from fedcomp.codecs.stages.rotate import Rotate
from fedcomp.codecs.stages.rows import Rows
from fedcomp.codecs.stages.sign import Sign
from fedcomp.codecs.stages.ternary import Ternary
from fedcomp.codecs.stages.threshold import Threshold
from fedcomp.codecs.stages.topk import TopK
from fedcomp.codecs.stages.trainable import Trainable
from fedcomp.codecs.stages.uniform import Uniform
from fedcomp.codecs.stages.warmup import Warmup

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
