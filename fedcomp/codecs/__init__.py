"""Codecs: how a model update becomes few bytes, and comes back checked. NumPy only.

A codec is written as text (`parse_codec`): ``keep | sparsifier | quantizer``. Each stage is one file in `stages` and
one line in `registry`; `coding` makes sections of bytes of what they choose, each in whichever way makes it smallest.
State is never hidden: randomness and context come in as arguments, `ErrorFeedback` takes a residual and returns one.
"""

from fedcomp.codecs.context import CodingContext
from fedcomp.codecs.decoded import DecodedUpdate
from fedcomp.codecs.decoder import decode, decode_update
from fedcomp.codecs.feedback import ErrorFeedback
from fedcomp.codecs.ledger import ByteLedger
from fedcomp.codecs.parse import parse_codec
from fedcomp.codecs.pipeline import Codec, EncodedUpdate
from fedcomp.codecs.products import ProductSum
from fedcomp.codecs.registry import NO_CODEC, PRESETS

__all__ = [
    "NO_CODEC",
    "PRESETS",
    "ByteLedger",
    "Codec",
    "CodingContext",
    "DecodedUpdate",
    "EncodedUpdate",
    "ErrorFeedback",
    "ProductSum",
    "decode",
    "decode_update",
    "parse_codec",
]
