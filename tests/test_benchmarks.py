"""Benchmarks measure what they say; never how fast."""

import json

import numpy as np
import pytest

from fedcomp.benchmarks import benchmark_codecs, compare_sparse, compare_symbols, synthetic_deltas
from fedcomp.cli import run


def test_sizes_are_those_of_the_frames():
    delta = synthetic_deltas(20_000)
    (result, other) = benchmark_codecs(delta, ["thin"])
    assert (result.delta, other.delta) == ("laplace", "gauss")
    assert result.times_smaller == 80_000 / result.num_bytes
    assert 1 <= result.positions_over_entropy < 1.3
    assert 0 < result.nmse < 1
    assert result.encode_over_memcpy > 0


def test_peers_write_the_same_and_entropy_is_a_floor():
    delta = synthetic_deltas(50_000)["laplace"]
    results = {r.peer: r for r in compare_symbols(delta, 4) if r.num_bytes}
    assert all(r.over_entropy >= 0.99 for r in results.values())
    assert results["fedcomp"].over_fedcomp == 1
    assert results["fedcomp"].over_entropy == min(r.over_entropy for r in results.values())
    sparse = {r.peer: r.num_bytes for r in compare_sparse(delta, 0.01)}
    assert sparse["int64 + float32 (as FedLab)"] == 500 * 12
    assert sparse["fedcomp"] < sparse["gzip over float32 (as OpenFL)"]


@pytest.mark.parametrize("codec", ["thin", "q4"])
def test_bench_command_writes_json(tmp_path, codec, capsys):
    path = tmp_path / "new" / "codecs.json"
    assert run(["bench", "codecs", "--parameters", "5000", "--codec", codec, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert len(written["codecs"]) == 2
    assert {row["what"] for row in written["peers"]} == {"8-bit symbols", "4-bit symbols", "top 1.00% ternary"}
    assert np.isfinite(written["codecs"][0]["nmse"])
