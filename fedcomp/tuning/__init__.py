"""Automated compression: a student by search, and an update codec for a budget of bytes."""

from fedcomp.tuning.candidate import Candidate, choose, pareto_front
from fedcomp.tuning.measure import measure_student
from fedcomp.tuning.space import SearchSpace
from fedcomp.tuning.study import TuneSettings, tune_student
from fedcomp.tuning.update_codec import CODECS, FittedCodec, fit_codecs

__all__ = [
    "CODECS",
    "Candidate",
    "FittedCodec",
    "SearchSpace",
    "TuneSettings",
    "choose",
    "fit_codecs",
    "measure_student",
    "pareto_front",
    "tune_student",
]
