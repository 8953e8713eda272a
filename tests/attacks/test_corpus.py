"""What the guided fuzzer found, and what took it to code that no golden frame reaches, once more."""

from pathlib import Path

import pytest

import fedcomp
from tests.attacks.check import outcome_of
from tests.golden.make import golden_model

SPEC = fedcomp.ModelSpec.of(golden_model())
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.fcz"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path):
    outcome_of(path.read_bytes(), SPEC)


def test_corpus_is_there_and_small():
    assert CORPUS
    assert sum(path.stat().st_size for path in CORPUS) < 50_000
