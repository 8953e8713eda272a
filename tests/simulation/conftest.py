"""What every test of the simulation needs."""

import pytest

from fedcomp.simulation.identity import task_identity


@pytest.fixture(autouse=True)
def identity():
    """Be a ServerApp, as `run_app` makes its caller one."""
    with task_identity(run_id=5, node_id=1):
        yield
