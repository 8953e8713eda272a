"""Knowledge distillation: a student learns a teacher's logits on unlabelled images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp.errors import DataError
from fedcomp.seeding import derive_seed
from fedcomp.training import evaluate, to_images, weak_augment

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedcomp.data import ImageDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSettings:
    """How a student learns.

    Args:
        epochs: Passes over the proxy images.
        batch_size: Images a step.
        learning_rate: Adam's first rate; it falls to zero along a cosine.
        temperature: Above 0; softens both sides.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 2e-3
    temperature: float = 3.0


@dataclass(frozen=True, slots=True)
class DistillReport:
    """What distillation did, on the validation set (0 to 1).

    Args:
        start_accuracy: Before.
        best_accuracy: Of the weights that were kept.
        best_epoch: After which they were taken; 0 means that nothing beat the start and it was kept.
        final_loss: Mean loss of the last epoch.
    """

    start_accuracy: float
    best_accuracy: float
    best_epoch: int
    final_loss: float


def distill(
    student: nn.Module,
    teacher_logits: Tensor,
    proxy: ImageDataset,
    validation: ImageDataset,
    settings: DistillSettings,
    *,
    seed: int,
) -> DistillReport:
    r"""Train `student` in place to imitate a teacher, and keep the weights that are best on the validation set.

    The loss is ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``. The student sees weakly augmented images,
    which a teacher's logits survive. A student of the teacher's own architecture should start from the average of
    the clients' models (FedDF), and keeps it if distillation does not help.

    Args:
        student: Any model, on any device.
        teacher_logits: (N, K), for the N proxy images.
        proxy: Unlabelled images.
        validation: Labelled; the gate.
        settings: See there.
        seed: For order and augmentation.

    Raises:
        DataError: There are no proxy images, or not one row of logits for each.

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
    generator = torch.Generator().manual_seed(derive_seed(seed, "distill"))
    device = next(student.parameters()).device
    images = to_images(proxy.images).to(device)
    targets = teacher_logits.to(device)
    optimizer = torch.optim.Adam(student.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    start_accuracy = best_accuracy = evaluate(student, validation).accuracy
    best_weights, best_epoch, final_loss = copy.deepcopy(student.state_dict()), 0, 0.0
    student.train()
    for epoch in range(1, settings.epochs + 1):
        losses = []
        for indices in _batches_without_rest(len(images), settings.batch_size, generator):
            views = weak_augment(images[indices], generator, flip_ok=proxy.flip_ok)
            loss = distillation_loss(student(views), targets[indices], settings.temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        final_loss = sum(losses) / len(losses)
        accuracy = evaluate(student, validation).accuracy
        # On equal validation accuracy the later weights: they have seen the smaller learning rate.
        if accuracy > best_accuracy or (best_epoch and accuracy == best_accuracy):
            best_accuracy, best_epoch = accuracy, epoch
            best_weights = copy.deepcopy(student.state_dict())
    student.load_state_dict(best_weights)
    return DistillReport(start_accuracy, best_accuracy, best_epoch, final_loss)


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    r"""Return ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, the mean over images.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: Above 0.
    """
    predictions = F.log_softmax(student_logits / temperature, dim=1)
    targets = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(predictions, targets, reduction="batchmean", log_target=True)


def _batches_without_rest(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Cut a permutation into equal batches, at least one: BatchNorm can't train on a rest of one image."""
    order = torch.randperm(count, generator=generator)
    return list(order[: max(batch_size, count - count % batch_size)].split(batch_size))
