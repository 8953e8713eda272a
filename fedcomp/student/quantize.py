"""Int8: after training by ONNX Runtime, or in training by torchao."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fedcomp.distillation import distill
from fedcomp.student.export import INPUT
from fedcomp.student.extra import student_extra
from fedcomp.student.layer_bits import largest_level
from fedcomp.student.pack_weights import pack_weights
from fedcomp.student.round_weights import RoundedModel, round_weights
from fedcomp.student.runtime import to_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from fedcomp.data import ImageDataset
    from fedcomp.distillation import DistillSettings
    from fedcomp.types import NDArray

_CALIBRATION_IMAGES, _BATCH_SIZE = 1024, 64
_USED_BITS = 7
"""Of int8 weights: see `quantize_after_training`."""


def quantize_after_training(content: bytes, images: NDArray, bits: Mapping[str, int] | None = None) -> bytes:
    """Quantize a float32 ONNX model to int8 weights, one scale a channel, and uint8 activations.

    Of int8 weights seven bits are used. x86 processors without VNNI add pairs of products up in 16 bits, which two of
    255 x 127 overflow: there a model with all eight bits answers otherwise than elsewhere.

    Layers of fewer bits are rounded by `round_weights` before ranges of activations are measured, and are stored in so
    many bits by `pack_weights`.

    Ranges of activations are the smallest and largest that calibration sees. Logits stay float32: eight bits would make
    ties of them.

    Args:
        content: Of a file without BatchNorm.
        images: uint8 (N, C, H, W), for calibration; no labels are needed. The first 1,024 are used.
        bits: By the name of weights that have fewer than eight; see `layer_bits`.

    Returns:
        An ONNX model with pairs of QuantizeLinear and DequantizeLinear.

    Raises:
        UsageError: The extra is not installed, or the graph has no weights of a name in `bits`.

    References:
        Nagel et al., A White Paper on Neural Network Quantization, 2021, section 3; for seven bits OpenVINO's
        documentation, Saturation (overflow) Issue Workaround.
    """
    model = round_weights(content, images, bits) if bits else RoundedModel(content, {})
    with student_extra():
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class ProxyImages(CalibrationDataReader):  # type: ignore[misc]
            """Batches of calibration images, once."""

            def __init__(self) -> None:
                few = images[:_CALIBRATION_IMAGES]
                self._batches = iter(few[i : i + _BATCH_SIZE] for i in range(0, len(few), _BATCH_SIZE))

            def get_next(self) -> dict[str, NDArray] | None:
                """Return the next batch, None after the last."""
                batch = next(self._batches, None)
                return None if batch is None else {INPUT: to_input(batch)}

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantize_static(
                onnx.load_from_string(model.content),
                target,
                ProxyImages(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                    "TensorQuantOverrides": {
                        name: [{"quant_type": QuantType.QInt8, "axis": 0, "scale": s, "zero_point": 0} for s in steps]
                        for name, steps in model.steps.items()
                    },
                },
            )
            return pack_weights(target.read_bytes()) if bits else target.read_bytes()


def train_quantized(
    folded: nn.Module,
    teacher_logits: Tensor,
    proxy: ImageDataset,
    validation: ImageDataset,
    settings: DistillSettings,
    *,
    seed: int,
    bits: Mapping[str, int] | None = None,
) -> nn.Module:
    """Go on distilling with quantizers in the graph; return the model with int8 weights, of which seven bits are used.

    Args:
        folded: A trained model without BatchNorm, see `fold_batch_norm`; left alone.
        teacher_logits: (N, K), for the proxy images.
        proxy: Unlabelled images.
        validation: Labelled; the weights are those that are best on it, quantized.
        settings: How; a tenth of the first learning rate, and a quarter of the epochs, are enough.
        seed: For order and augmentation.
        bits: By the name of weights that have fewer than eight; see `layer_bits`.

    Returns:
        A module that `export_onnx` writes as pairs of QuantizeLinear and DequantizeLinear.

    References:
        Jacob et al., CVPR 2018, section 3; Mishra and Marr, Apprentice, ICLR 2018, scheme C (distilled fine-tuning).
    """
    with student_extra():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
            X86InductorQuantizer,
            get_default_x86_inductor_quantization_config,
        )

        quantizer = X86InductorQuantizer()
        default = get_default_x86_inductor_quantization_config(is_qat=True)

        def with_weights_of(width: int) -> Any:
            largest = largest_level(width)
            return replace(default, weight=replace(default.weight, quant_min=-largest, quant_max=largest))

        quantizer.set_global(with_weights_of(_USED_BITS))
        for name, width in (bits or {}).items():
            quantizer.set_module_name_qconfig(name.removesuffix(".weight"), with_weights_of(width))
        example = torch.zeros(2, *proxy.image_shape)
        batch = torch.export.Dim("batch", min=1)
        exported = torch.export.export(folded, (example,), dynamic_shapes=({0: batch},), strict=False).module()
        prepared = prepare_qat_pt2e(exported, quantizer)
        _let_dropout_follow_the_mode(prepared)
        distill(prepared, teacher_logits, proxy, validation, settings, seed=seed)
        prepared.eval()
        quantized: nn.Module = convert_pt2e(prepared)
        _let_dropout_follow_the_mode(quantized)
        quantized.eval()
        return quantized


def _let_dropout_follow_the_mode(exported: Any) -> None:
    """Give an exported graph a `train` and an `eval` that switch its dropout; there is no BatchNorm in it.

    torchao's `allow_exported_model_train_eval` finds the same nodes by patterns that it traces anew: seconds a call.
    """
    kinds = (torch.ops.aten.dropout.default, torch.ops.aten.dropout_.default)
    dropouts = [node for node in exported.graph.nodes if node.target in kinds]

    def train(mode: bool = True) -> Any:
        for node in dropouts:
            node.update_arg(2, mode)
        if dropouts:
            exported.recompile()
        return exported

    exported.train, exported.eval = train, partial(train, False)
