"""The training benchmark: what is told is measured, against the first of its kind."""

from fedcomp.benchmarks.training import benchmark_training


def test_views_and_objectives_are_measured():
    results = benchmark_training("perceptron", turns=1)
    assert [result.what for result in results if result.ratio == 1] >= ["weak", "supervised"]
    assert {"strong", "mixup", "fixmatch", "uda", "mean-teacher"} <= {result.what for result in results}
    assert all(result.milliseconds >= result.least > 0 for result in results)
