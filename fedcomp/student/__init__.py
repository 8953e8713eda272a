"""The student: what leaves the system."""

from fedcomp.run_files import CARD_FILE, CLIENTS_FOLDER
from fedcomp.student.card import StudentCard, Variant
from fedcomp.student.channels import prune_channels
from fedcomp.student.export import export_onnx, fold_batch_norm
from fedcomp.student.finished_run import FinishedRun
from fedcomp.student.from_run import RUN_FACTS, student_from_run
from fedcomp.student.layer_bits import layer_bits, layer_names
from fedcomp.student.magnitude import cubic_sparsity, prune_smallest, prune_weights, sparsity
from fedcomp.student.make import Lesson, StudentSettings, export_student, train_student
from fedcomp.student.quantize import quantize_after_training, train_quantized
from fedcomp.student.runtime import Latency, OnnxModel, Parity, measure_latency
from fedcomp.student.store import load_student, open_student, save_student

__all__ = [
    "CARD_FILE",
    "CLIENTS_FOLDER",
    "RUN_FACTS",
    "FinishedRun",
    "Latency",
    "Lesson",
    "OnnxModel",
    "Parity",
    "StudentCard",
    "StudentSettings",
    "Variant",
    "cubic_sparsity",
    "export_onnx",
    "export_student",
    "fold_batch_norm",
    "layer_bits",
    "layer_names",
    "load_student",
    "measure_latency",
    "open_student",
    "prune_channels",
    "prune_smallest",
    "prune_weights",
    "quantize_after_training",
    "save_student",
    "sparsity",
    "student_from_run",
    "train_quantized",
    "train_student",
]
