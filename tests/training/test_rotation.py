"""Rotation: images are turned as they are labelled, and nothing else is looked at."""

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.training import Batch, Rotation, turn
from fedcomp.training.views import plain


def test_each_image_is_turned_by_its_own_quarters():
    images = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    turns = torch.tensor([3, 0, 1, 2, 1])
    turned = turn(images, turns)
    for image, quarters, result in zip(images.numpy(), turns.tolist(), turned.numpy(), strict=True):
        assert (result == np.rot90(image, quarters, axes=(1, 2))).all()


def test_who_sees_how_an_image_is_up_has_no_loss():
    images = torch.zeros(40, 1, 8, 8)
    images[:, :, 0, 0] = 1.0

    def see_the_corner(seen):
        corners = seen[:, 0, [0, -1, -1, 0], [0, 0, -1, -1]]  # upper left, then counterclockwise
        return 100 * corners

    batch = Batch(images, torch.zeros(40, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    assert Rotation(plain)(see_the_corner, None, batch, generator).loss == 0
    blind = Rotation(plain)(lambda seen: torch.zeros(len(seen), 4), None, batch, generator)
    torch.testing.assert_close(blind.loss, torch.tensor(4.0).log())


def test_labels_are_not_looked_at_and_all_images_are():
    seen = []

    def predict(images):
        seen.append(len(images))
        return F.adaptive_avg_pool2d(images, 2).flatten(1)

    def batch(label):
        return Batch(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((3,), label))

    losses = [Rotation(plain)(predict, batch(n), batch(-1), torch.Generator().manual_seed(0)).loss for n in (0, 1)]
    assert torch.equal(*losses)
    assert seen == [6, 6]
