"""What all tests share."""

import torch  # noqa: F401

from fedcomp.forking import import_what_torch_puts_off

import_what_torch_puts_off()  # here once, and not in each process that a test forks
