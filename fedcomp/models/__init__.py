"""Models by name, and their weights as NumPy arrays."""

from fedcomp.models.narrow import narrow_to
from fedcomp.models.registry import MODELS, build_model
from fedcomp.models.weights import get_weights, set_weights

__all__ = ["MODELS", "build_model", "get_weights", "narrow_to", "set_weights"]
