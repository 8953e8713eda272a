"""Students of every architecture fold, export and quantize: also those whose layers ask for their images' size."""

import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from torch import nn

from fedcomp.models import build_model
from fedcomp.models.backbone import Preprocess
from fedcomp.models.inverted_residual import InvertedResidual, conv_norm_relu
from fedcomp.student import OnnxModel, export_onnx, fold_batch_norm, quantize_after_training


def with_statistics(model):
    """Let the norms of a model be far from what they begin with."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for values in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return model.eval()


def test_norms_behind_convolutions_that_pad_by_size_are_folded():
    model = with_statistics(
        nn.Sequential(
            Preprocess(12, (0.5,) * 3, (0.5,) * 3),
            *conv_norm_relu(3, 8, 3, 2, norm=nn.BatchNorm2d),
            InvertedResidual(8, 8, expansion=2, kernel=3, stride=1, norm=nn.BatchNorm2d),
        )
    )
    folded, images = fold_batch_norm(model), torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_norms_behind_linear_layers_are_folded():
    model = with_statistics(nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.BatchNorm1d(4)))
    folded, images = fold_batch_norm(model), torch.rand(2, 1, 3, 3)
    torch.testing.assert_close(folded(images), model(images))
    assert not any(isinstance(module, nn.BatchNorm1d) for module in folded.modules())


def test_a_convolution_that_others_read_keeps_its_norm():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

        def forward(self, images):
            hidden = self.convolution(images)
            return self.norm(hidden) + hidden

    class Twice(Both):
        def forward(self, images):
            return self.norm(self.convolution(images)) + self.convolution(images)

    images = torch.rand(2, 1, 5, 5)
    for model in map(with_statistics, (Both(), Twice())):
        folded = fold_batch_norm(model)
        torch.testing.assert_close(folded(images), model(images))
        assert any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_constants_that_a_quantizer_copies_take_no_other_name():
    model = build_model("resnet8-gn", image_shape=(1, 8, 8), num_classes=10, seed=0).eval()
    images = np.random.default_rng(0).integers(0, 256, (32, 1, 8, 8), dtype=np.uint8)
    content = export_onnx(fold_batch_norm(model), (1, 8, 8), {})
    plain, quantized = (OnnxModel(file).logits(images) for file in (content, quantize_after_training(content, images)))
    assert np.abs(plain - quantized).max() < 0.1 * np.abs(plain).max()


@pytest.mark.parametrize("name", ["perceptron", "resnet8-gn", "student-pyramid(width=0.5)"])
def test_products_of_weights_and_activations_fit_in_pairs_into_16_bits(name):
    """Processors without VNNI add them up there: with larger weights they answer otherwise than all others."""
    model = with_statistics(build_model(name, image_shape=(1, 8, 8), num_classes=10, seed=0))
    images = np.random.default_rng(0).integers(0, 256, (32, 1, 8, 8), dtype=np.uint8)
    content = quantize_after_training(export_onnx(fold_batch_norm(model), (1, 8, 8), {}), images)
    weights = [to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer]
    kernels = [values.astype(int) for values in weights if values.dtype == np.int8 and values.ndim > 1]
    assert kernels
    assert all(2 * 255 * np.abs(kernel).max() < 2**15 for kernel in kernels)
