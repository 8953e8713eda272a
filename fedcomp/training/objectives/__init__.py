"""What clients minimize, with or without labels: `make_objective` builds one by name."""

from fedcomp.training.objectives.objective import Begun, Objective, Received, Step
from fedcomp.training.objectives.pseudo_labelling import PseudoLabelling, sharpen
from fedcomp.training.objectives.registry import PRESETS, ObjectiveSettings, make_objective
from fedcomp.training.objectives.rotation import Rotation, turn
from fedcomp.training.objectives.simsiam import SimSiam, output_spread
from fedcomp.training.objectives.supervised import Supervised
from fedcomp.training.objectives.thresholds import AdaptiveThreshold, Confidence, FixedThreshold

__all__ = [
    "PRESETS",
    "AdaptiveThreshold",
    "Begun",
    "Confidence",
    "FixedThreshold",
    "Objective",
    "ObjectiveSettings",
    "PseudoLabelling",
    "Received",
    "Rotation",
    "SimSiam",
    "Step",
    "Supervised",
    "make_objective",
    "output_spread",
    "sharpen",
    "turn",
]
