"""Knowledge distillation: a student learns a teacher's logits on unlabelled images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp.distillation.hints import Hints
from fedcomp.errors import ConfigError, DataError
from fedcomp.models import training_mode
from fedcomp.seeding import derive_seed
from fedcomp.training import evaluate, to_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from torch import Tensor, nn

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset
    from fedcomp.types import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSettings:
    """How a student learns.

    Args:
        epochs: Passes over as many images as there are proxy images without their views.
        batch_size: Images a step.
        optimizer: ``adam``, or ``sgd`` with Nesterov momentum 0.9.
        learning_rate: The first one; it falls to zero along a cosine.
        temperature: Above 0; softens both sides in the first epoch.
        final_temperature: In the last epoch, on a geometric way there; 0 for the same throughout.
        hard_weight: In [0, 1]: share of the cross-entropy with the teacher's own choice in the loss.
        hint_weight: Of the distance to the teacher's features, where there are any; 0 is off.
        views: Of each proxy image among them, see `proxy_views`: the first of `views` parts are the images themselves,
            and half of what an epoch shows.
        patience: Epochs without a better validation accuracy after which it stops; 0 is never.

    Raises:
        ConfigError: The optimizer is unknown.
    """

    epochs: int = 60
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    temperature: float = 3.0
    final_temperature: float = 0.0
    hard_weight: float = 0.0
    hint_weight: float = 0.0
    views: int = 1
    patience: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise ConfigError(f"distill-optimizer is {self.optimizer!r}, expected one of {', '.join(_OPTIMIZERS)}")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Return how a run's configuration teaches a student."""
        return cls(
            epochs=config.distill_epochs,
            batch_size=config.distill_batch_size,
            optimizer=config.distill_optimizer,
            learning_rate=config.distill_learning_rate,
            temperature=config.temperature,
            final_temperature=config.final_temperature,
            hard_weight=config.hard_label_weight,
            hint_weight=config.hint_weight,
            views=config.proxy_views,
            patience=config.distill_patience,
        )

    @classmethod
    def of_fusion(cls, config: RunConfig) -> Self:
        """Return how a run's configuration distills clients into their average."""
        return cls(
            epochs=config.fusion_epochs,
            batch_size=config.distill_batch_size,
            optimizer=config.distill_optimizer,
            learning_rate=config.fusion_learning_rate,
            temperature=config.fusion_temperature,
            views=config.proxy_views,
        )

    def temperature_in(self, epoch: int) -> float:
        """Return the temperature of an epoch, from 1 to `epochs`."""
        progress = (epoch - 1) / max(self.epochs - 1, 1)
        final = self.final_temperature or self.temperature
        return float(self.temperature * (final / self.temperature) ** progress)


@dataclass(frozen=True, slots=True)
class DistillReport:
    """What distillation did, on the validation set (0 to 1).

    Args:
        start_accuracy: Before.
        best_accuracy: Of the weights that were kept.
        best_epoch: After which they were taken; 0 means that nothing beat the start and it was kept.
        num_epochs: How many were done: fewer than asked where patience ended.
    """

    start_accuracy: float
    best_accuracy: float
    best_epoch: int
    num_epochs: int


def distill(
    student: nn.Module,
    teacher_logits: Tensor,
    proxy: ImageDataset,
    validation: ImageDataset,
    settings: DistillSettings,
    *,
    seed: int,
    hints: Tensor | None = None,
) -> DistillReport:
    r"""Train `student` in place to imitate a teacher, and keep the weights that are best on the validation set.

    The loss is `distillation_loss`, and the distance to hints where there are any. The student sees what the teacher
    has answered on, as it is. A student of the teacher's own architecture should start from the average of the clients'
    models (FedDF), and keeps it if distillation does not help.

    Args:
        student: Any model, on any device.
        teacher_logits: (N, K), for the N proxy images.
        proxy: Unlabelled images.
        validation: Labelled; the gate.
        settings: See there.
        seed: For the order.
        hints: (N, D), what a teacher's last layer sees of each image (`features`); used where `hint_weight` is set.

    Raises:
        DataError: There are no proxy images, or not one row of logits or hints for each, or some lack a view.
        UsageError: There are hints, and the student has no linear layer.

    References:
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2;
        Lin et al., FedDF, NeurIPS 2020, section 4.1 (Adam, cosine, early stopping on validation data).
    """
    expected = (len(proxy), proxy.num_classes)
    if not len(proxy) or teacher_logits.shape != expected:
        raise DataError(
            f"{proxy.name}: teacher's logits of shape {tuple(teacher_logits.shape)} for {len(proxy)} proxy images of "
            f"{proxy.num_classes} classes, expected shape {expected} of one image or more"
        )
    if len(proxy) % settings.views:
        raise DataError(f"{proxy.name}: {len(proxy)} proxy images are not {settings.views} views of as many each")
    if hints is not None and (hints.ndim != 2 or len(hints) != len(proxy)):
        raise DataError(f"{proxy.name}: {len(hints)} rows of hints for {len(proxy)} proxy images, expected (N, D)")
    generator = torch.Generator().manual_seed(derive_seed(seed, "distill"))
    device = next(student.parameters()).device
    targets = teacher_logits.to(device)

    def see(indices: NDArray | slice) -> Tensor:
        return to_images(proxy.images[indices]).to(device)

    start_accuracy = best_accuracy = evaluate(student, validation).accuracy
    best_weights, best_epoch, epoch = copy.deepcopy(student.state_dict()), 0, 0
    with Hints(student, hints if settings.hint_weight else None, see(slice(1)), generator) as hinted:
        optimizer = _OPTIMIZERS[settings.optimizer](
            [*student.parameters(), *hinted.parameters()], settings.learning_rate
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
        training_mode(student)
        shown = _epochs(len(proxy), settings.views, generator)
        for epoch in range(1, settings.epochs + 1):
            temperature = settings.temperature_in(epoch)
            for indices in _batches_without_rest(next(shown), settings.batch_size):
                logits = student(see(indices.numpy()))
                loss = distillation_loss(logits, targets[indices], temperature, hard_weight=settings.hard_weight)
                loss = loss + settings.hint_weight * hinted.distance(indices)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            schedule.step()
            accuracy = evaluate(student, validation).accuracy
            # On equal validation accuracy the later weights: they have seen the smaller learning rate.
            if accuracy > best_accuracy or (best_epoch and accuracy == best_accuracy):
                best_accuracy, best_epoch = accuracy, epoch
                best_weights = copy.deepcopy(student.state_dict())
            if settings.patience and epoch - best_epoch >= settings.patience:
                break
    student.load_state_dict(best_weights)
    return DistillReport(start_accuracy, best_accuracy, best_epoch, epoch)


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, hard_weight: float = 0.0
) -> Tensor:
    r"""Return ``(1 - a) T^2 KL(softmax(teacher / T) || softmax(student / T)) + a CE(student, argmax teacher)``.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T, above 0.
        hard_weight: a, in [0, 1].

    Returns:
        The mean over images.

    References:
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    predictions = F.log_softmax(student_logits / temperature, dim=1)
    targets = F.log_softmax(teacher_logits / temperature, dim=1)
    soft = temperature**2 * F.kl_div(predictions, targets, reduction="batchmean", log_target=True)
    if not hard_weight:
        return soft
    return (1 - hard_weight) * soft + hard_weight * F.cross_entropy(student_logits, teacher_logits.argmax(dim=1))


def _adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, learning_rate)


def _sgd(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, learning_rate, momentum=0.9, nesterov=True)


_OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]] = {"adam": _adam, "sgd": _sgd}


def _epochs(count: int, views: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield which images each epoch shows: of views, half the images themselves and half others, each equally often."""
    own = count // views
    themselves = _without_end(torch.arange(own), own - own // 2 if views > 1 else own, generator)
    others = _without_end(torch.arange(own, count), own // 2 if views > 1 else 0, generator)
    while True:
        chosen = torch.cat([next(themselves), next(others)])
        yield chosen[torch.randperm(len(chosen), generator=generator)]


def _without_end(items: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `size` items at a time, in a new order each time that all have been there."""
    order = items[:0]
    while True:
        while len(order) < size:
            order = torch.cat([order, items[torch.randperm(len(items), generator=generator)]])
        yield order[:size]
        order = order[size:]


def _batches_without_rest(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into equal batches, at least one: BatchNorm can't train on a rest of one image."""
    return list(order[: max(batch_size, len(order) - len(order) % batch_size)].split(batch_size))
