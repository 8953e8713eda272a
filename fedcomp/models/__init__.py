"""Models by name, and their weights as NumPy arrays."""

from fedcomp.models.backbone import BackboneClassifier, split_backbone
from fedcomp.models.narrow import narrow_to
from fedcomp.models.partial import PartialModel
from fedcomp.models.parts import ModelParts, evaluation_mode, freeze, matching_names, training_mode
from fedcomp.models.pretraining import PRETRAINING_NETWORKS, pretraining_network
from fedcomp.models.registry import MODELS, build_model
from fedcomp.models.rotation import QUARTER_TURNS
from fedcomp.models.simsiam import SimSiamNetwork
from fedcomp.models.weights import get_weights, set_weights

__all__ = [
    "MODELS",
    "PRETRAINING_NETWORKS",
    "QUARTER_TURNS",
    "BackboneClassifier",
    "ModelParts",
    "PartialModel",
    "SimSiamNetwork",
    "build_model",
    "evaluation_mode",
    "freeze",
    "get_weights",
    "matching_names",
    "narrow_to",
    "pretraining_network",
    "set_weights",
    "split_backbone",
    "training_mode",
]
