"""SimSiam: the loss has its published form, and a collapse is seen."""

import torch

from fedcomp.training import Batch, ImageViews, SimSiam, output_spread
from fedcomp.training.views import plain


def test_the_loss_is_a_negative_cosine_without_gradient_of_the_projection():
    z = torch.randn(4, 6, requires_grad=True)
    p = torch.randn(4, 6, requires_grad=True)
    batch = Batch(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long))
    step = SimSiam(plain)(lambda inputs: torch.stack((z, p), dim=1), None, batch, torch.Generator())
    torch.testing.assert_close(step.loss, -torch.nn.functional.cosine_similarity(p, z).mean())
    step.loss.backward()
    assert z.grad is None or not z.grad.any()
    assert p.grad.any()


def test_labels_are_not_looked_at_and_all_images_are():
    seen = []

    def predict(images):
        seen.append(len(images))
        return images.flatten(1)[:, None].expand(-1, 2, -1)

    def batch(label):
        return Batch(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((3,), label))

    objective = SimSiam(ImageViews(flip_ok=False).strong)
    losses = [objective(predict, batch(n), batch(-1), torch.Generator().manual_seed(0)).loss for n in (0, 1)]
    assert torch.equal(*losses)
    assert seen == [6] * 4


def test_spread_is_0_of_a_collapse_and_1_of_a_gaussian():
    assert output_spread(torch.ones(50, 8)) < 1e-6
    assert abs(output_spread(torch.randn(5000, 64, generator=torch.Generator().manual_seed(0))) - 1) < 0.02
