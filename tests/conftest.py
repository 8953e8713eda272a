"""What all tests share."""

import torch  # noqa: F401

from fedcomp.forking import import_what_torch_puts_off

import_what_torch_puts_off()  # here once, and not in each process that a test forks


def pytest_collection_modifyitems(items):
    """Begin with what waits for real processes: at the end there would be nothing to do beside it."""
    items.sort(key=lambda item: item.path.parent.name != "integration")
