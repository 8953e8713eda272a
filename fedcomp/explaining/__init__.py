"""Explaining a run's models: what each layer stands, what is lost by class, where a model looks, where bytes went."""

from fedcomp.explaining.calibration import ReliabilityBin, expected_calibration_error, reliability
from fedcomp.explaining.explain import ExplainSettings, Explanation, ModelReport, explain_run
from fedcomp.explaining.saliency import SaliencyDrift, integrated_gradients, saliency_drift
from fedcomp.explaining.sensitivity import LayerDamage, measure_sensitivity, signal_to_noise
from fedcomp.explaining.tensor_bytes import TensorBytes, bytes_by_tensor

__all__ = [
    "ExplainSettings",
    "Explanation",
    "LayerDamage",
    "ModelReport",
    "ReliabilityBin",
    "SaliencyDrift",
    "TensorBytes",
    "bytes_by_tensor",
    "expected_calibration_error",
    "explain_run",
    "integrated_gradients",
    "measure_sensitivity",
    "reliability",
    "saliency_drift",
    "signal_to_noise",
]
