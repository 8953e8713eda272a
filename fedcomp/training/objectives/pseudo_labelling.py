"""Learning from guesses: who guesses, who is trusted, what is learned from it are choices of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from fedcomp.training.augmentation import mixup
from fedcomp.training.objectives.fairness import fairness_loss
from fedcomp.training.objectives.guessers import Guesser, Student, Teacher, guess_all
from fedcomp.training.objectives.objective import Begun, Step
from fedcomp.training.objectives.thresholds import Confidence
from fedcomp.training.pseudo_labels import PseudoLabels

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedcomp.training.augmentation.mixing import Mix
    from fedcomp.training.batches import Batch
    from fedcomp.training.compute import Predict
    from fedcomp.training.objectives.objective import Received
    from fedcomp.training.objectives.supervised import Supervised
    from fedcomp.training.objectives.thresholds import Threshold
    from fedcomp.training.views import Views


class PseudoState(NamedTuple):
    """What lives for one local training.

    Args:
        guesser: Who guesses in the steps.
        seen: How sure the guesses have been; None if no threshold asks.
    """

    guesser: Guesser
    seen: Confidence | None


@dataclass(frozen=True)
class PseudoLabelling:
    r"""Supervised loss plus ``weight * mean(1[trusted] * CE(view, guess))``.

    A guess is trusted if its probability reaches the threshold of its class. Where guesses are made once a round, only
    the trusted examples are trained on and the mean is theirs; in the steps it is over all examples, as in FixMatch.

    Args:
        supervised: What is learned from labels.
        views: Guesses are made on weak views (once a round: on the examples as they are).
        threshold: Who is trusted.
        pseudo_labels: ``live``: the model in training guesses; ``teacher``: a copy of the received one, on new views in
            each step; ``broadcast``: the received one, once a round (Diao et al., SemiFL, NeurIPS 2022, section 3.2).
        temperature: Of the guesses that are learned from: 1 as they are, 0 only the largest (Lee 2013), between them
            sharpened (Xie et al., UDA, NeurIPS 2020, section 2.3).
        is_strong: Whether it learns on strong views or on weak ones.
        mix: Mixes trusted examples with each other, and what was guessed of them; None for no mixing.
        weight: Of the loss on guesses.
        mix_weight: Of mixup between trusted examples, on weak views: SemiFL's second loss, whose partners are trusted,
            too, here. 0 is off.
        mix_alpha: Of the Beta distribution of both mixtures.
        fairness_weight: Of `fairness_loss`; 0 is off.
        teacher_decay: See `Teacher`.

    References:
        Sohn et al., FixMatch, NeurIPS 2020, section 2.2, equations 3 and 4, and the papers above.
    """

    supervised: Supervised
    views: Views
    threshold: Threshold
    pseudo_labels: str = "live"
    temperature: float = 0.0
    is_strong: bool = True
    mix: Mix | None = None
    weight: float = 1.0
    mix_weight: float = 0.0
    mix_alpha: float = 0.75
    fairness_weight: float = 0.0
    teacher_decay: float = 1.0

    def begin(self, received: Received) -> Begun[PseudoState]:
        """Measure how sure the received model is, and let it guess where that is done once."""
        nothing = PseudoLabels.none(self.supervised.num_classes)
        unlabelled, seen = received.unlabelled, None
        guesser: Guesser = Student()
        if self.pseudo_labels == "teacher":
            guesser = Teacher(received.model, decay=self.teacher_decay, precision=received.precision)
        is_once = self.pseudo_labels == "broadcast"
        if not len(unlabelled.labels) or not (is_once or self._follows):
            return Begun(unlabelled, PseudoState(guesser, None), nothing)
        guesses = guess_all(received)
        if self._follows:
            seen = Confidence.of(guesses)
        if not is_once:
            return Begun(unlabelled, PseudoState(guesser, seen), nothing)
        is_trusted, counts = self._trust(guesses, unlabelled.labels, seen)
        chosen = unlabelled._replace(guesses=guesses).take(is_trusted.nonzero()[:, 0])
        return Begun(chosen, PseudoState(guesser, seen), counts)

    def __call__(
        self,
        predict: Predict,
        labelled: Batch | None,
        unlabelled: Batch | None,
        generator: Generator,
        state: PseudoState,
    ) -> Step[PseudoState]:
        """Return both losses' sum, each where its batch is given."""
        if unlabelled is None:
            return Step(self.supervised(predict, labelled, None, generator).loss, state)
        counts = None
        if (probabilities := unlabelled.guesses) is not None:
            is_trusted = torch.ones_like(unlabelled.labels, dtype=torch.bool)
        else:
            probabilities = state.guesser(self.views.weak(unlabelled.inputs, generator), predict)
            if self._follows:
                state = state._replace(seen=_followed(state.seen, probabilities, self.threshold.decay))
            is_trusted, counts = self._trust(probabilities, unlabelled.labels, state.seen)
        loss = self._learn(predict, unlabelled.inputs, probabilities, is_trusted, generator, state)
        if labelled is not None:
            loss = loss + self.supervised(predict, labelled, None, generator).loss
        return Step(loss, state, counts)

    def _learn(
        self,
        predict: Predict,
        inputs: Tensor,
        probabilities: Tensor,
        is_trusted: Tensor,
        generator: Generator,
        state: PseudoState,
    ) -> Tensor:
        targets = sharpen(probabilities, self.temperature)
        view = self.views.strong if self.is_strong else self.views.weak
        shown, learned, is_learned = view(inputs, generator), targets, is_trusted
        if self.mix:
            shown, learned, partners = self.mix(shown, targets, generator, self.mix_alpha)
            is_learned = is_trusted & is_trusted[partners]
        logits = predict(shown)
        loss = self.weight * (F.cross_entropy(logits, learned, reduction="none") * is_learned).mean()
        if self.mix_weight:
            mixed = mixup(self.views.weak(inputs, generator), targets, generator, self.mix_alpha)
            of_both = F.cross_entropy(predict(mixed.inputs), mixed.targets, reduction="none")
            loss = loss + self.mix_weight * (of_both * (is_trusted & is_trusted[mixed.partners])).mean()
        if self.fairness_weight:
            seen = state.seen or Confidence.of(probabilities)
            loss = loss + self.fairness_weight * fairness_loss(logits, is_learned, seen)
        return loss

    @property
    def _follows(self) -> bool:
        return self.threshold.decay is not None

    def _trust(self, probabilities: Tensor, truth: Tensor, seen: Confidence | None) -> tuple[Tensor, PseudoLabels]:
        """Return who is trusted, (B,), and the counts."""
        num_classes = probabilities.shape[1]
        confidence, guesses = probabilities.max(dim=1)
        thresholds = self.threshold.by_class(seen, num_classes).to(confidence.device).expand(num_classes)
        is_trusted = confidence >= thresholds[guesses]
        return is_trusted, PseudoLabels.count(guesses, is_trusted, truth, num_classes)


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Return ``p^(1/T) / sum(p^(1/T))``, (B, K); for T = 0 its limit, one class alone."""
    if temperature == 1:
        return probabilities
    if temperature == 0:
        return F.one_hot(probabilities.argmax(dim=1), probabilities.shape[1]).to(probabilities.dtype)
    return (probabilities.clamp_min(1e-12).log() / temperature).softmax(dim=1)


def _followed(seen: Confidence | None, probabilities: Tensor, decay: float | None) -> Confidence:
    if seen is None or decay is None:
        return Confidence.of(probabilities)
    return seen.moved(probabilities, decay)
