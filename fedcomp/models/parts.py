"""Which tensors of a model are frozen, which stay at the client, and which travel."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Self

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import nn


@dataclass(frozen=True, slots=True)
class ModelParts:
    """The names of a model's tensors, in ``state_dict`` order, by what becomes of them.

    Args:
        frozen: Never train and never travel: both ends have them.
        local: Train at the client and stay there.
        shared: Train and travel.
    """

    frozen: tuple[str, ...]
    local: tuple[str, ...]
    shared: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, *, frozen: str = "", local: str = "") -> Self:
        """Sort a model's tensors.

        Args:
            model: Any.
            frozen: Patterns of names as in a shell (``backbone.*``), separated by commas; empty for none.
            local: The same.

        Raises:
            ConfigError: A pattern fits no tensor, a tensor is both, or nothing is left to share.
        """
        names = list(model.state_dict())
        is_frozen, is_local = matching_names(names, frozen, "frozen"), matching_names(names, local, "local-layers")
        if both := sorted(is_frozen & is_local):
            raise ConfigError(f"{both[0]} is both frozen and of local-layers: it can only be one of them")
        shared = tuple(name for name in names if name not in is_frozen | is_local)
        trainable = {name for name, _ in model.named_parameters()}
        if trainable.isdisjoint(shared):
            raise ConfigError("frozen and local-layers leave no parameter that clients could share")
        return cls(
            frozen=tuple(name for name in names if name in is_frozen),
            local=tuple(name for name in names if name in is_local),
            shared=shared,
        )


def freeze(model: nn.Module, names: Iterable[str]) -> None:
    """Let the parameters of these names have no gradient; `training_mode` then leaves their layers as they are."""
    frozen = set(names)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def training_mode(model: nn.Module) -> None:
    """Put a model into training mode, but for parts of it that are frozen as a whole.

    A frozen norm layer must not count what it sees, nor a frozen part drop anything out: it computes as in evaluation.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and then each of its parts back into the mode that it was in."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(was_training[model])  # an exported graph does more than to set the attribute
        for module, mode in was_training.items():
            module.training = mode


def matching_names(names: Sequence[str], patterns: str, key: str) -> set[str]:
    """Return the names that fit one of some patterns.

    Args:
        names: Of tensors.
        patterns: As in a shell, separated by commas; empty for none.
        key: Of the run's configuration, for the error.

    Raises:
        ConfigError: A pattern fits no name.
    """
    found = set[str]()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        fits = {name for name in names if fnmatchcase(name, pattern)}
        if not fits:
            raise ConfigError(f"{key} has the pattern {pattern!r}, which fits none of {_shown(names)}")
        found |= fits
    return found


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:6])}, ... {', '.join(names[-6:])}"
