"""Models over a network: a gRPC service, its client, and what an edge device pulls."""

from fedcomp.serving.client import CallFailed, ModelClient, Prediction
from fedcomp.serving.limits import ServingLimits
from fedcomp.serving.pull import Pulled, pull
from fedcomp.serving.server import ModelServer, serve, serving_in_thread

__all__ = [
    "CallFailed",
    "ModelClient",
    "ModelServer",
    "Prediction",
    "Pulled",
    "ServingLimits",
    "pull",
    "serve",
    "serving_in_thread",
]
