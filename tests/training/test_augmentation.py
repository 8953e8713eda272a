"""Views: range, shape, seeds, each image its own parameters, and nothing at strength 0."""

import pytest
import torch

from fedcomp.errors import ConfigError
from fedcomp.training import StrongPolicy, weak_augment
from fedcomp.training.augmentation import cut_out, cutmix, mixup, rand_augment
from fedcomp.training.augmentation.geometric import OPERATIONS, affine_matrices, resample, weak_matrices
from fedcomp.training.augmentation.photometric import COLOUR, photometric_pool

ALL = StrongPolicy(num_operations=4)
OPERATION = pytest.mark.parametrize("name", COLOUR)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=40, channels=1, side=12):
    return torch.rand(count, channels, side, side, generator=generator(9))


@pytest.mark.parametrize("channels", [1, 3])
def test_random_operations_keep_shape_range_and_repeat(channels):
    images = pictures(channels=channels)
    before = images.clone()
    first, same, other = (rand_augment(images, generator(seed), ALL) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


def test_grey_images_stay_grey_in_three_channels_and_get_no_colour_operation():
    views = rand_augment(pictures().expand(-1, 3, -1, -1), generator(), ALL)
    torch.testing.assert_close(views[:, 0], views[:, 1])
    torch.testing.assert_close(views[:, 0], views[:, 2])
    assert "saturation" not in photometric_pool(1)
    assert "saturation" in photometric_pool(3)


@pytest.mark.parametrize(("height", "width"), [(64, 8), (8, 64)])
def test_a_shift_is_at_most_an_eighth_of_each_side(height, width):
    images = torch.ones(200, 1, height, width)
    moved = resample(images, weak_matrices(images, generator(), flip_ok=False))
    for views in (weak_augment(images, generator(), flip_ok=False), moved):
        assert views.mean(dim=(1, 2, 3)).min() > 0.75


def test_no_strength_changes_nothing():
    images = pictures(channels=3)
    torch.testing.assert_close(rand_augment(images, generator(), StrongPolicy(4, magnitude=0.0)), images)
    torch.testing.assert_close(rand_augment(images, generator(), StrongPolicy(0)), images)
    assert torch.equal(cut_out(images, generator(), 0.0), images)


@OPERATION
def test_an_operation_is_an_images_own(name):
    images, strengths = pictures(6, channels=3), torch.tensor([0.0, 0.7, -0.7, 0.0, 0.5, 1.0]).view(-1, 1, 1, 1)
    views = COLOUR[name](images, strengths)
    torch.testing.assert_close(views[[0, 3]], images[[0, 3]])
    assert 0 <= views.min() <= views.max() <= 1
    for place in (1, 2, 4, 5):
        alone = COLOUR[name](images[place : place + 1], strengths[place : place + 1])
        torch.testing.assert_close(views[place : place + 1], alone)
        assert not torch.equal(views[place], images[place])


def test_autocontrast_uses_the_whole_range_and_survives_a_flat_image():
    dim = pictures() * 0.2 + 0.4
    views = COLOUR["autocontrast"](dim, torch.ones(40, 1, 1, 1))
    torch.testing.assert_close(views.amax(dim=(1, 2, 3)), torch.ones(40))
    assert COLOUR["autocontrast"](torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 1, 1)).isfinite().all()


@pytest.mark.parametrize("place", range(len(OPERATIONS)))
def test_a_geometric_operation_alone_is_one_matrix(place):
    matrices = affine_matrices(torch.tensor([place, place, 99]), torch.tensor([0.0, 0.8, 0.8]))
    torch.testing.assert_close(matrices[[0, 2]], torch.eye(3).expand(2, 3, 3))
    assert not torch.equal(matrices[1], torch.eye(3))
    assert torch.linalg.det(matrices).min() > 0  # nothing mirrors


def test_a_shift_moves_pixels_and_brings_zeros_in():
    images = torch.ones(1, 1, 10, 10)
    right = affine_matrices(torch.tensor([OPERATIONS.index("translate-x")]), torch.tensor([1.0]))
    moved = resample(images, right)
    assert moved[0, 0, :, :7].min() > 0.99
    assert moved[0, 0, :, 7:].max() < 0.01


def test_a_square_is_cut_out_of_each_image():
    views = cut_out(torch.ones(200, 1, 28, 28), generator(), 0.35)
    holes = (views == 0).sum(dim=(1, 2, 3))
    assert holes.max() == 9 * 9
    assert holes.min() >= 5 * 5
    assert len({view.numpy().tobytes() for view in views}) > 100


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixed_targets_sum_to_one_and_tell_what_is_in_the_image(mix):
    # Image i is all i, and has the label i: a mixture's mean is the mean label.
    values = torch.arange(16.0)
    images, targets = values.view(-1, 1, 1, 1).expand(-1, 2, 8, 8), torch.eye(16)
    mixed = mix(images, targets, generator(), 0.75)
    torch.testing.assert_close(mixed.targets.sum(dim=1), torch.ones(16))
    torch.testing.assert_close(mixed.inputs.mean(dim=(1, 2, 3)), mixed.targets @ values)
    assert mixed.partners.sort().values.tolist() == list(range(16))
    assert len({round(float(row.max()), 4) for row in mixed.targets}) > 4  # each its own share
    again = mix(images, targets, generator(), 0.75)
    assert torch.equal(mixed.inputs, again.inputs)


@pytest.mark.parametrize("alpha", [1e-4, 0.75, 1e4])
def test_shares_of_extreme_mixtures_are_finite(alpha):
    mixed = mixup(torch.rand(64, 3), torch.eye(64), generator(), alpha)
    assert mixed.inputs.isfinite().all()
    torch.testing.assert_close(mixed.targets.sum(dim=1), torch.ones(64))


@pytest.mark.parametrize("policy", [{"num_operations": -1}, {"magnitude": 1.5}, {"cutout": -0.1}])
def test_policies_that_are_none(policy):
    with pytest.raises(ConfigError, match="expected"):
        StrongPolicy(**policy)
