"""Distillation: many client models, or the global one, taught to one student on unlabelled proxy images."""

from fedcomp.distillation.distill import DistillReport, DistillSettings, distill, distillation_loss
from fedcomp.distillation.teachers import EnsembleTeacher, GlobalTeacher, Teacher

__all__ = [
    "DistillReport",
    "DistillSettings",
    "EnsembleTeacher",
    "GlobalTeacher",
    "Teacher",
    "distill",
    "distillation_loss",
]
