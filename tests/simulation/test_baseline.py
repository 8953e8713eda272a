"""What a run is compared with: the same run, with plain arrays both ways."""

import pytest

from fedcomp.config import RunConfig
from fedcomp.simulation.experiment import run_baseline


@pytest.mark.parametrize(
    "budgets",
    [
        {"uplink-budget-bytes": 3000, "downlink-budget-bytes": 3000},
        {"target-ratio": 100.0, "downlink-target-ratio": 20.0},
    ],
)
def test_plain_arrays_have_no_budget(tmp_path, budgets):
    config = RunConfig.from_mapping({"codec": "thin", "downlink": "thin", "seed": 7, **budgets})
    (tmp_path / "config.toml").write_text(config.to_toml())
    plain = run_baseline(tmp_path, num_workers=0, run=lambda config, num_workers: config).to_mapping()
    assert [plain[key] for key in ("codec", "downlink", "seed")] == ["none", "none", 7]
    assert not any(plain[key] for key in budgets)
