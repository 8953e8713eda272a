"""fedcomp: federated learning for thin pipes.

Compress one update::

    codec = fedcomp.codec("topk(density=0.01) | ternary")
    encoded = codec.encode(delta, rng=rng)
    delta = fedcomp.decode(encoded.frame, fedcomp.ModelSpec.of(model))

Make an existing Flower app's traffic small: `fedcomp.flower`. Simulate many clients: `fedcomp.simulation`.
"""

from fedcomp.codecs import ByteLedger, Codec, CodingContext, EncodedUpdate, ErrorFeedback, decode
from fedcomp.codecs import parse_codec as codec
from fedcomp.errors import FedcompError, FrameError
from fedcomp.types import Model, ModelDelta, ModelSpec, TensorSpec
from fedcomp.wire import FrameLimits

__all__ = [
    "ByteLedger",
    "Codec",
    "CodingContext",
    "EncodedUpdate",
    "ErrorFeedback",
    "FedcompError",
    "FrameError",
    "FrameLimits",
    "Model",
    "ModelDelta",
    "ModelSpec",
    "TensorSpec",
    "codec",
    "decode",
]
