"""Automated compression: a student by search, and an update codec for a budget of bytes."""

from fedcomp.tuning.bit_path import PathPoint, bit_path, points_along
from fedcomp.tuning.candidate import Candidate, choose, pareto_front
from fedcomp.tuning.measure import Workbench
from fedcomp.tuning.space import SearchSpace
from fedcomp.tuning.study import TuneSettings, tune_student
from fedcomp.tuning.update_codec import CODECS, FittedCodec, fit_codecs

__all__ = [
    "CODECS",
    "Candidate",
    "FittedCodec",
    "PathPoint",
    "SearchSpace",
    "TuneSettings",
    "Workbench",
    "bit_path",
    "choose",
    "fit_codecs",
    "pareto_front",
    "points_along",
    "tune_student",
]
