"""The choice of the fastest way, by a clock of the test's own."""

import pytest
import torch

from fedcomp.config import RunConfig
from fedcomp.data import load_dataset
from fedcomp.models import build_model, get_weights
from fedcomp.training import Compute, fastest, resolve_compute

PLAIN, SHORT = Compute("float32"), Compute("bfloat16")


class Work:
    """A machine on which each way of computing takes its own time."""

    def __init__(self, **seconds):
        self.now, self.seconds, self.runs = 0.0, seconds, []

    def clock(self):
        return self.now

    def run(self, compute):
        self.runs.append(compute)
        seconds = self.seconds[compute.precision]
        if seconds is None:
            raise RuntimeError("not implemented for BFloat16")
        self.now += seconds

    def fastest(self, **arguments):
        return fastest([PLAIN, SHORT], self.run, clock=self.clock, **arguments)


@pytest.mark.parametrize(
    ("work", "choice"),
    [
        (Work(float32=0.010, bfloat16=0.004), SHORT),
        (Work(float32=0.004, bfloat16=0.010), PLAIN),
        (Work(float32=0.0100, bfloat16=0.0097), PLAIN),
        (Work(float32=0.010, bfloat16=None), PLAIN),
        (Work(float32=0.6, bfloat16=0.1), PLAIN),
    ],
    ids=["faster", "slower", "not worth it", "impossible", "no time to compare"],
)
def test_the_first_is_left_only_for_a_clear_gain(work, choice):
    assert work.fastest() == choice


def test_a_small_model_is_done_early_and_a_large_one_in_time():
    small, large = Work(float32=0.001, bfloat16=0.002), Work(float32=0.3, bfloat16=0.2)
    small.fastest()
    assert len(small.runs) == 20
    assert small.now < 0.05
    large.fastest(budget=1.0)
    assert large.now <= 1.0 + 0.3


def test_one_candidate_is_not_run():
    work = Work()
    assert fastest([SHORT], work.run) == SHORT
    assert not work.runs


def test_what_fails_in_the_first_way_is_an_error():
    with pytest.raises(RuntimeError, match="not implemented"):
        Work(float32=None, bfloat16=0.1).fastest()


def test_a_configuration_without_auto_is_not_measured():
    config = RunConfig.from_mapping({"precision": "bfloat16", "memory-format": "contiguous"})
    assert resolve_compute(config, torch.nn.Identity(), load_dataset("digits")[0]) == config


@pytest.mark.parametrize("key", ["precision", "memory-format"])
def test_auto_becomes_a_value_and_the_model_stays(key):
    images, _ = load_dataset("digits")
    model = build_model("cnn-gn", image_shape=images.image_shape, num_classes=10, seed=0)
    before = get_weights(model)
    config = RunConfig.from_mapping({key: "auto", "learning-rate": 0.5})
    resolved = resolve_compute(config, model, images)
    Compute(resolved.precision, resolved.memory_format)
    assert {**resolved.to_mapping(), key: "auto"} == config.to_mapping()
    assert all((before[name] == values).all() for name, values in get_weights(model).items())


def test_a_model_without_convolutions_has_no_format_to_choose():
    config = RunConfig.from_mapping({"memory-format": "auto"})
    assert resolve_compute(config, torch.nn.Identity(), load_dataset("digits")[0]).memory_format == "channels-last"
