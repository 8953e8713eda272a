"""Distillation: many client models, or the global one, taught to one student on unlabelled proxy images."""

from fedcomp.distillation.distill import DistillReport, DistillSettings, distill, distillation_loss
from fedcomp.distillation.generator import GeneratorSettings, generate_proxy
from fedcomp.distillation.hints import features
from fedcomp.distillation.kept_clients import KeptClients, read_clients
from fedcomp.distillation.proxy import fit_images, proxy_images, proxy_views
from fedcomp.distillation.teachers import EnsembleTeacher, GlobalTeacher, Teacher

__all__ = [
    "DistillReport",
    "DistillSettings",
    "EnsembleTeacher",
    "GeneratorSettings",
    "GlobalTeacher",
    "KeptClients",
    "Teacher",
    "distill",
    "distillation_loss",
    "features",
    "fit_images",
    "generate_proxy",
    "proxy_images",
    "proxy_views",
    "read_clients",
]
