"""The student: what leaves the system."""

from fedcomp.student.store import load_student, save_student

__all__ = ["load_student", "save_student"]
