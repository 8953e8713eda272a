"""Laws of every objective, on images and on rows of a table; thresholds, guessers, mixtures."""

import itertools

import numpy as np
import pytest
import torch

from fedcomp.data import UNLABELLED
from fedcomp.errors import ConfigError
from fedcomp.models import freeze
from fedcomp.training import Batch, ImageViews, LocalSettings, ObjectiveSettings, Received, make_objective
from fedcomp.training.local import train_on_batches
from fedcomp.training.objectives import PRESETS, AdaptiveThreshold, Confidence, FixedThreshold, sharpen
from fedcomp.training.objectives.fairness import fairness_loss
from fedcomp.training.objectives.guessers import Teacher

K = 3


class RowViews:
    """Views of a table's rows: noise."""

    def weak(self, inputs, generator):
        return inputs + 0.01 * torch.randn(inputs.shape, generator=generator)

    def strong(self, inputs, generator):
        return inputs + 0.2 * torch.randn(inputs.shape, generator=generator)


@pytest.fixture(autouse=True)
def _same_models():
    torch.manual_seed(0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images():
    features = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten())
    return torch.nn.Sequential(features, torch.nn.Linear(4 * 9, K)), torch.rand(12, 1, 8, 8), ImageViews(flip_ok=True)


def rows():
    return torch.nn.Linear(5, K), torch.rand(12, 5), RowViews()


KINDS = {"images": images, "rows": rows}
VARIANTS = {
    "supervised": {"objective": "supervised"},
    "smooth mixup": {"objective": "supervised", "mixing": "mixup", "label_smoothing": 0.1},
    **{name: {"objective": name, "pseudo_threshold": 0.2} for name in PRESETS},
    "broadcast": {"pseudo_labels": "broadcast", "pseudo_threshold": 0.2},
    "broadcast, adaptive, mixed": {"pseudo_labels": "broadcast", "threshold": "adaptive", "mix_weight": 1.0},
    "guesses mixed": {"objective": "uda", "pseudo_threshold": 0.2, "pseudo_mixing": "mixup", "learned_view": "weak"},
    "average teacher": {"objective": "mean-teacher", "teacher_decay": 0.9, "pseudo_threshold": 0.2},
    "fair": {"objective": "freematch", "fairness_weight": 0.05},
}


def batches(inputs, shown):
    batch = Batch(inputs, torch.arange(len(inputs)) % K)
    return (batch if "labelled" in shown else None), (batch if "hidden" in shown else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", [("labelled",), ("hidden",), ("labelled", "hidden")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_finite_has_a_gradient_and_repeats(kind, shown, variant):
    model, inputs, views = KINDS[kind]()
    objective = make_objective(ObjectiveSettings(**VARIANTS[variant]), views, K)
    labelled, hidden = batches(inputs, shown)
    nothing = Batch(inputs[:0], torch.zeros(0, dtype=torch.int64))
    begun = objective.begin(Received(model, model, hidden or nothing))
    hidden = begun.unlabelled if len(begun.unlabelled.labels) else None
    if labelled is None and hidden is None:
        assert VARIANTS[variant].get("objective") == "supervised"
        return
    losses = []
    for _ in range(2):
        model.zero_grad()
        step = objective(model, labelled, hidden, generator(), begun.state)
        step.loss.backward()
        losses.append(step.loss.item())
    assert np.isfinite(losses).all()
    assert losses[0] == losses[1] or variant == "average teacher"
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "upervised" not in name and "smooth" not in name])
def test_training_on_hidden_labels_alone_repeats_and_never_uses_them(variant):
    def train(truth):
        torch.manual_seed(0)
        model, inputs, views = rows()
        objective = make_objective(ObjectiveSettings(**VARIANTS[variant]), views, K)
        nothing = Batch(inputs[:0], torch.zeros(0, dtype=torch.int64))
        settings = LocalSettings(batch_size=2, epochs=2)
        metrics = train_on_batches(model, nothing, Batch(inputs, truth), settings, objective=objective, seed=3)
        return model.weight.detach().clone(), metrics

    truth = torch.arange(12) % K
    (weights, metrics), (same, _), (blind, unmeasured) = map(train, (truth, truth, torch.full((12,), UNLABELLED)))
    assert torch.equal(weights, same)
    assert torch.equal(weights, blind)
    assert metrics.keys() == unmeasured.keys()
    assert sum(metrics["pseudo-known"]) == metrics["pseudo-guessed"]
    assert sum(unmeasured["pseudo-known"]) == 0
    assert metrics["pseudo-trusted"] == unmeasured["pseudo-trusted"]


class Says(torch.nn.Module):
    """Says the class that an input holds with a given confidence, whatever the view."""

    def __init__(self, confidence):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(float(np.log(confidence * (K - 1) / (1 - confidence)))))

    def forward(self, inputs):
        return self.gain * torch.nn.functional.one_hot(inputs[:, 0].round().long().clamp(0, K - 1), K)


class Still:
    weak = strong = staticmethod(lambda inputs, generator: inputs)


@pytest.mark.parametrize("name", [*PRESETS])
def test_a_confident_guesser_that_is_right_has_the_lower_loss(name):
    truth = torch.arange(12) % K
    inputs, objective = truth.float()[:, None], make_objective(ObjectiveSettings(objective=name), Still(), K)

    def loss(confidence):
        model = Says(confidence)
        begun = objective.begin(Received(model, model, Batch(inputs, truth)))
        step = objective(model, Batch(inputs, truth), Batch(inputs, truth), generator(), begun.state)
        return step.loss.item(), step.guessed

    (sure, counts), (unsure, _) = loss(0.999), loss(0.96)
    assert sure < unsure
    assert (counts.guessed, counts.trusted, counts.accuracy) == (12, 12, 1.0)


@pytest.mark.parametrize("parts", [{"threshold": "adaptive"}, {"pseudo_labels": "broadcast", "pseudo_threshold": 0.0}])
def test_guesses_before_the_first_step_leave_frozen_norms_alone(parts):
    norm = torch.nn.BatchNorm1d(5)
    model = torch.nn.Sequential(norm, torch.nn.Linear(5, K))
    freeze(model, ["0.weight", "0.bias"])
    batch = Batch(torch.rand(12, 5), torch.arange(12) % K)
    objective = make_objective(ObjectiveSettings(**parts), RowViews(), K)
    train_on_batches(model, batch, batch, LocalSettings(), objective=objective, seed=0)
    assert norm.num_batches_tracked == 0
    assert not norm.running_mean.any()


def test_guesses_of_the_broadcast_are_made_once_and_only_the_trusted_stay():
    truth = torch.tensor([0, 1, 2, 2])
    model = Says(0.97)
    inputs = torch.tensor([0.0, 1.0, 1.0, 2.0])[:, None]
    settings = ObjectiveSettings(pseudo_labels="broadcast", pseudo_threshold=0.95)
    begun = make_objective(settings, Still(), K).begin(Received(model, model, Batch(inputs, truth)))
    assert len(begun.unlabelled.labels) == 4
    assert begun.unlabelled.guesses.argmax(dim=1).tolist() == [0, 1, 1, 2]
    assert begun.guessed.right == (1, 1, 1)
    none = make_objective(ObjectiveSettings(pseudo_labels="broadcast", pseudo_threshold=0.99), Still(), K)
    begun = none.begin(Received(model, model, Batch(inputs, truth)))
    assert len(begun.unlabelled.labels) == 0
    assert begun.guessed.trusted == 0
    nothing = Batch(inputs[:0], truth[:0])
    before = model.gain.item()
    metrics = train_on_batches(model, nothing, Batch(inputs, truth), LocalSettings(), objective=none, seed=0)
    assert model.gain.item() == before  # distrusted examples cost no step
    assert (metrics["num-examples"], metrics["trusted-examples"]) == (1.0, 1.0)


def test_guesses_are_learned_mixed_among_the_trusted_on_the_view_that_is_asked_for():
    class Weak(Still):
        strong = None

    truth = torch.tensor([0, 1, 2, 0])
    inputs = truth.float()[:, None]
    settings = ObjectiveSettings(pseudo_mixing="mixup", learned_view="weak")
    objective = make_objective(settings, Weak(), K)

    def loss(confidence):
        shown = []

        def predict(inputs):
            shown.append(inputs)
            return torch.nn.functional.one_hot(truth, K) * float(np.log(confidence * (K - 1) / (1 - confidence)))

        hidden = Batch(inputs, truth)
        step = objective(predict, None, hidden, generator(), objective.begin(Received(None, predict, hidden)).state)
        assert torch.equal(shown[0], inputs)  # what is guessed of
        assert shown[1].frac().any()  # mixtures, and nothing else
        assert len(shown) == 2
        return step.loss.item()

    assert loss(0.96) > 0
    assert loss(0.94) == 0  # nobody is trusted


def test_thresholds():
    assert FixedThreshold(0.8).by_class(None, K) == pytest.approx(0.8)
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.2, 0.3], [0.1, 0.7, 0.2], [0.8, 0.1, 0.1]])
    seen = Confidence.of(probabilities)
    thresholds = AdaptiveThreshold().by_class(seen, K)
    torch.testing.assert_close(thresholds.max(), torch.tensor((0.9 + 0.5 + 0.7 + 0.8) / 4))
    assert thresholds.argmax() == 0  # the class that it thinks of most
    torch.testing.assert_close(thresholds / thresholds[0], probabilities.mean(0) / probabilities.mean(0)[0])
    assert seen.moved(torch.eye(3), 1.0) is seen
    moved = seen.moved(torch.eye(3), 0.9)
    torch.testing.assert_close(moved.level, 0.9 * seen.level + 0.1)
    with pytest.raises(ValueError, match="adapt to"):
        AdaptiveThreshold().by_class(None, K)


def test_sharpened_guesses_are_probabilities_up_to_a_label():
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    assert sharpen(probabilities, 1.0) is probabilities
    for hotter, colder in itertools.pairwise((1.0, 0.7, 0.4, 0.1, 0.0)):
        assert sharpen(probabilities, colder)[0, 0] > sharpen(probabilities, hotter)[0, 0]
        torch.testing.assert_close(sharpen(probabilities, colder).sum(dim=1), torch.ones(2))
    assert sharpen(probabilities, 0.0).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_teacher_stays_or_follows():
    model, inputs, _ = rows()
    fixed, average = Teacher(model), Teacher(model, decay=0.5)
    before = model(inputs).softmax(dim=1).detach()
    with torch.no_grad():
        model.weight.add_(torch.arange(15.0).view(K, 5))
    after = model(inputs).softmax(dim=1).detach()
    torch.testing.assert_close(fixed(inputs, model), before)
    assert not torch.allclose(average(inputs, model), before)
    for _ in range(40):
        average(inputs, model)
    torch.testing.assert_close(average(inputs, model), after)


def test_fairness_prefers_classes_that_are_guessed_evenly():
    even = Confidence(torch.tensor(0.9), torch.full((K,), 1 / K), torch.full((K,), 1 / K))
    trusted = torch.ones(6, dtype=torch.bool)
    logits = torch.zeros(6, K, requires_grad=True)
    loss = fairness_loss(logits, trusted, even)
    loss.backward()
    assert loss.isfinite()
    assert fairness_loss(logits, ~trusted, even) == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"objective": "simclr"}, "pseudo-label, fixmatch"), ({"pseudo_mixing": "cutmux"}, "one of none, mixup, cutmix")],
)
def test_names_that_are_none(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        make_objective(ObjectiveSettings(**settings), Still(), K)
