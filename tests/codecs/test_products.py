"""Products are checked as factors, and added up together: to what they would be one by one."""

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs import DecodedUpdate, ProductSum, decode_update
from fedcomp.codecs.products import Factored, Product
from fedcomp.errors import InvalidValues
from fedcomp.flower.server.fold import WeightedMean
from fedcomp.wire import Binding, Frame, FrameLimits, Section, SectionKind, StageHeader, write_frame

SHAPE = (40, 70)
MODEL = {"w": np.zeros(SHAPE, np.float32), "bias": np.zeros(9, np.float32), "counter": np.array(3)}
SPEC = fedcomp.ModelSpec.of(MODEL)


def delta(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        "w": (scale * rng.normal(size=(40, 5)) @ rng.normal(size=(5, 70))).astype(np.float32),
        "bias": (scale * rng.normal(size=9)).astype(np.float32),
        "counter": np.array(seed),
    }


def received(seed, codec="thin", scale=1.0, **arguments):
    return decode_update(fedcomp.codec(codec).encode(delta(seed, scale)).frame, SPEC, **arguments)


def factored(left, right):
    """Decode a frame of one matrix with these components."""
    spec = fedcomp.ModelSpec.of({"w": np.zeros((left.shape[1], right.shape[1]), np.float32)})
    values = np.concatenate([left.reshape(-1), right.reshape(-1)]).astype(np.float32)
    stages = (StageHeader(27, (len(left),)), StageHeader(32))
    section = Section(SectionKind.VALUES, 0, values.tobytes())
    return write_frame(Frame(Binding(), spec.fingerprint, stages, (section,))), spec


def test_an_update_stays_as_factors_until_somebody_asks():
    update = received(1)
    assert isinstance(update.coded, Factored)
    update.norm()
    update.add_to({name: np.zeros(v.size) for name, v in MODEL.items()}, 1.0, ProductSum({"w": np.zeros(2800)}))
    assert update.coded._expanded is None
    assert update.to_delta()["w"].shape == SHAPE
    assert update.values is update.values


@pytest.mark.parametrize("count", [1, 7, 60])
def test_the_mean_is_that_of_updates_added_one_by_one(count):
    updates = [received(seed) for seed in range(count)]
    mean, sums = WeightedMean(MODEL), {name: np.zeros(values.size) for name, values in MODEL.items()}
    for weight, update in enumerate(updates, 1):
        mean.add(update, weight)
        update.add_to(sums, weight)
    for name, values in mean.model().items():
        one_by_one = sums[name].reshape(values.shape) / mean.total_weight + MODEL[name]
        expected = np.rint(one_by_one) if name == "counter" else one_by_one
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_same_order_gives_the_same_bits():
    updates = [received(seed) for seed in range(30)]
    models = []
    for _ in range(2):
        mean = WeightedMean(MODEL)
        for weight, update in enumerate(updates, 1):
            mean.add(update, weight)
        models.append(mean.model())
    for name in MODEL:
        np.testing.assert_array_equal(models[0][name], models[1][name])


def test_few_components_wait_however_many_updates_come():
    total = {"w": np.zeros(2800)}
    products = ProductSum(total)
    for seed in range(200):
        (product, _) = received(seed).coded.tensors
        products.add("w", product, 1.0)
        assert sum(len(waiting.left) for waiting, _ in products._stacks.get("w", [])) < 128
    nothing = Product(np.empty((0, 40), np.float32), np.empty((0, 70), np.float32))
    before = len(products._stacks["w"])
    products.add("w", nothing, 1.0)
    assert len(products._stacks["w"]) == before


@pytest.mark.parametrize("weights", [(1e-30, 1e30), (1e15, 1e15), (3.0, 1e-300)])
def test_weights_of_any_size_are_no_overflow(weights):
    updates = [received(seed) for seed in (1, 2)]
    total = {"w": np.zeros(2800)}
    products = ProductSum(total)
    for update, weight in zip(updates, weights, strict=True):
        products.add("w", update.coded.tensors[0], weight)
    products.flush()
    expected = sum(w * u.to_delta()["w"].reshape(-1).astype(np.float64) for u, w in zip(updates, weights, strict=True))
    np.testing.assert_allclose(total["w"], expected, rtol=1e-4, atol=1e-5 * max(weights))


def test_norms_of_factors_are_those_of_the_matrices():
    for seed in range(5):
        update = received(seed)
        dense = DecodedUpdate.from_delta(update.to_delta())
        assert update.norm() == pytest.approx(dense.norm(), rel=1e-6)


def cancelling(scale, other=0.0):
    """Decode a frame of two components which cancel each other but for a share."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(1, 40)), rng.normal(size=(1, 70))
    return factored(scale * np.concatenate([left, -left]), scale * np.concatenate([right, right * (1 + other)]))


def test_components_that_cancel_do_not_hide_what_is_added():
    """What float32 leaves of two large components that cancel is more than their exact sum: zero."""
    frame, spec = cancelling(1e8, 1e-5)
    update = decode_update(frame, spec)
    dense = np.square(update.to_delta()["w"], dtype=np.float64).sum() ** 0.5
    assert update.norm() == pytest.approx(dense, rel=1e-9)
    with pytest.raises(InvalidValues, match="norm"):
        decode_update(frame, spec, limits=FrameLimits(max_norm=dense / 2))


@pytest.mark.parametrize("scale", [1e4, 1e8, 1e14])
@pytest.mark.parametrize("other", [0, 1e-6, 1e-3, 0.03])
def test_components_that_cancel_move_the_mean_by_their_norm(scale, other):
    """A matrix product leaves other roundings of large components than the expansion that is measured."""
    frame, spec = cancelling(scale, other)
    update = decode_update(frame, spec)
    mean = WeightedMean({"w": np.zeros((40, 70), np.float32)})
    mean.add(update, 1.0)
    moved = mean.model()["w"]
    np.testing.assert_allclose(moved, update.to_delta()["w"], atol=1e-5 * update.norm(), rtol=0)
    assert np.linalg.norm(moved.astype(np.float64)) == pytest.approx(update.norm(), rel=1e-5)


def test_the_norm_is_checked_before_anything_is_folded():
    norm = received(1).norm()
    assert received(1, limits=FrameLimits(max_norm=norm * 1.001)).norm() == norm
    with pytest.raises(InvalidValues, match="norm"):
        received(1, limits=FrameLimits(max_norm=norm * 0.999))


@pytest.mark.parametrize(("size", "kind"), [(1e20, Factored), (1e35, np.ndarray)])
def test_factors_so_large_that_sums_might_overflow_are_expanded(size, kind):
    frame, spec = factored(np.full((1, 8), size), np.full((1, 8), size))
    update = decode_update(frame, spec)
    assert isinstance(update.coded, kind)
    mean = WeightedMean({"w": np.zeros((8, 8), np.float32)})
    for _ in range(40):
        mean.add(update, 1e15)
    np.testing.assert_allclose(mean.model()["w"], size / np.sqrt(8), rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_factors_that_are_no_numbers_are_refused(bad):
    left = np.ones((2, 8))
    left[1, 3] = bad
    frame, spec = factored(left, np.ones((2, 8)))
    with pytest.raises(InvalidValues):
        decode_update(frame, spec)


def test_gains_behind_a_transform_expand_it():
    update = received(1, "balance | lowrank(rank=4) | deadzone(step=0.5)")
    assert isinstance(update.coded, np.ndarray)
    assert received(1, "lowrank(rank=4) | deadzone(step=0.5)").norm() == pytest.approx(update.norm(), rel=0.2)
