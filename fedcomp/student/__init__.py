"""The student: what leaves the system."""

from fedcomp.student.magnitude import cubic_sparsity, prune_smallest, prune_weights, sparsity
from fedcomp.student.store import load_student, save_student

__all__ = ["cubic_sparsity", "load_student", "prune_smallest", "prune_weights", "save_student", "sparsity"]
