"""Which character comes next? An LSTM on the documents that describe scikit-learn's data sets, one document a client.

::

    python -m simulations.next_character [--rounds 10] [--seed 0]

Subjects, lengths and mark-up differ from document to document: that is how unlike the clients are. The last tenth of
each document is what accuracy is measured on.
"""

from __future__ import annotations

import argparse
from importlib.resources import files

import torch
from torch import Tensor, nn

from fedcomp.seeding import derive_seed
from fedcomp.training import Batch, ImageViews, LocalSettings, ObjectiveSettings, make_objective
from simulations.small_task import Examples, Outcome, Task, print_outcomes, run_task

WINDOW = 32
_FIRST, _LAST = 32, 126  # printable ASCII; all else is one character more
VOCABULARY = _LAST - _FIRST + 2


class NextCharacter(nn.Module):
    """Characters (B, T), int64, in; logits (B, V, T) of what follows each out; 81,264 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 24)
        self.lstm = nn.LSTM(24, 112, batch_first=True)
        self.head = nn.Linear(112, VOCABULARY)

    def forward(self, characters: Tensor) -> Tensor:
        """Return logits."""
        hidden, _ = self.lstm(self.embedding(characters))
        logits: Tensor = self.head(hidden)
        return logits.transpose(1, 2)


def build(seed: int) -> nn.Module:
    """Build the model with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "model"))
        return NextCharacter()


def documents() -> list[Tensor]:
    """Return the texts as characters' numbers, by name."""
    folder = files("sklearn.datasets") / "descr"
    texts = [
        path.read_text(encoding="utf-8") for path in sorted(folder.iterdir(), key=str) if path.name.endswith(".rst")
    ]
    return [torch.tensor([_number(character) for character in text]) for text in texts]


def windows(text: Tensor) -> Batch:
    """Cut a text into windows (N, T), each with the characters that follow it, (N, T)."""
    count = (len(text) - 1) // WINDOW
    inputs, following = text[: count * WINDOW], text[1 : count * WINDOW + 1]
    return Batch(inputs.view(count, WINDOW), following.view(count, WINDOW))


def task(texts: list[Tensor]) -> Task:
    """Return the task on these texts, a client each."""
    parts = [text.split([len(text) - len(text) // 10, len(text) // 10]) for text in texts]
    own, held_out = [windows(front) for front, _ in parts], [windows(back) for _, back in parts]
    test = Batch(torch.cat([batch.inputs for batch in held_out]), torch.cat([batch.labels for batch in held_out]))

    def measure(model: nn.Module) -> float:
        with torch.inference_mode():
            return float((model(test.inputs).argmax(dim=1) == test.labels).float().mean())

    settings = ObjectiveSettings(objective="supervised", augment=False)
    return Task(
        build=build,
        clients=[Examples(batch, batch.take(torch.empty(0, dtype=torch.long))) for batch in own],
        measure=measure,
        objective=make_objective(settings, ImageViews(flip_ok=False), VOCABULARY),  # its views are not used
        settings=LocalSettings(epochs=2, batch_size=16, optimizer="adam", learning_rate=5e-3, weight_decay=0.0),
    )


def run(num_rounds: int, seed: int = 0, num_documents: int | None = None) -> dict[str, Outcome]:
    """Train twice, with plain float32 arrays and compressed both ways."""
    learned = task(documents()[:num_documents])
    codecs = {"float32": ("none", "none"), "thin, q4 down": ("thin", "q4")}
    return {
        name: run_task(learned, codec=up, downlink=down, num_rounds=num_rounds, seed=seed)
        for name, (up, down) in codecs.items()
    }


def _number(character: str) -> int:
    return ord(character) - _FIRST if _FIRST <= ord(character) <= _LAST else VOCABULARY - 1


def main() -> None:
    """Run it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print_outcomes(run(arguments.rounds, arguments.seed), "float32")


if __name__ == "__main__":
    main()
