"""Warm-up: the density falls to the codec's own, by the round of the context."""

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs.stages.topk import TopK
from fedcomp.codecs.stages.warmup import Warmup
from fedcomp.errors import CodecSpecError


def test_the_schedule_of_the_paper():
    densities = [Warmup(rounds=4).adjust(TopK(density=0.001), r).density for r in range(1, 8)]
    np.testing.assert_allclose(densities, [0.25, 0.0629, 0.0158, 0.00398, 0.001, 0.001, 0.001], rtol=5e-3)


def test_a_denser_sparsifier_stays_as_it_is():
    assert {Warmup(rounds=4).adjust(TopK(density=0.5), r).density for r in range(1, 8)} == {0.5}


@pytest.mark.parametrize("sparsifier", ["topk", "randk", "rows"])
def test_the_round_comes_with_the_context(sparsifier):
    delta = {"w": np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32)}
    codec = fedcomp.codec(f"warmup(rounds=3) | {sparsifier}(density=0.02) | uniform(bits=4)")

    def num_sent(server_round):
        context = fedcomp.CodingContext("run", "client", server_round, 1) if server_round else None
        frame = codec.encode(delta, rng=np.random.default_rng(0), context=context).frame
        return np.count_nonzero(fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))["w"])

    sent = [num_sent(server_round) for server_round in (1, 2, 3, 4, None)]
    assert sent[0] > sent[1] > sent[2] > sent[3] == sent[4]


def test_it_needs_a_density():
    with pytest.raises(CodecSpecError, match="density"):
        fedcomp.codec("warmup(rounds=3) | threshold(sigmas=2) | ternary")
    with pytest.raises(CodecSpecError, match="density"):
        fedcomp.codec("warmup(rounds=3) | float32")
