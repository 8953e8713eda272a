"""What must hold for any bytes: the one property that tests and fuzzers share.

A frame is refused with a `FrameError`, or it gives finite values of exactly the model's names, shapes and types;
without a warning; and the process never takes more than a cap above what it had. The cap counts what C and Rust
libraries take, too: Linux keeps the highest address space and the highest resident memory of a process. Where there
is no such account, memory is not checked.
"""

import contextlib
import ctypes
import time
import warnings
from pathlib import Path

import numpy as np
import xxhash

import fedcomp
from fedcomp.errors import FrameError

CAP = 32 << 20
"""Bytes, for models of at most some 10,000 parameters: what the libraries need as working memory stays far below."""

CAP_PER_PARAMETER = 64
"""Bytes more, for larger models: positions are int64, and random ones are sorted."""

# BLAS keeps a buffer of 32 MiB from the first product on that is not small. It is taken once, whatever is decoded.
np.ones((256, 256), np.float32) @ np.ones((256, 256), np.float32)

HANG_SECONDS = 1.0
"""Of processor time, so that a busy machine is no hang."""


class Violation(AssertionError):
    """Bytes that break the property."""


def sealed(content):
    """Return content with a checksum that is right."""
    return content + xxhash.xxh3_64_digest(content)


def outcome_of(data, spec, *, context=None, hang_seconds=None, costs=None):
    """Decode; return the reason of the refusal, or "decoded".

    Args:
        data: Any bytes.
        spec: The receiver's model.
        context: What the receiver holds; None to check no binding.
        hang_seconds: Most processor time; None for any, as in tests that run on busy machines.
        costs: Where to note (seconds, bytes); a list or a deque.

    Raises:
        Violation: The property does not hold.
    """
    memory, started = Memory(), time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            decoded = fedcomp.decode(data, spec, context=context)
    except FrameError as error:
        outcome = error.reason
    except Exception as error:
        raise Violation(f"{type(error).__name__}: {error}") from error
    else:
        outcome = "decoded"
        if [(n, v.shape, v.dtype) for n, v in decoded.items()] != [(t.name, t.shape, _dtype_of(t)) for t in spec]:
            raise Violation("other names, shapes or types than the model's")
        if not all(np.isfinite(values).all() for values in decoded.values()):
            raise Violation("values are not finite")
    seconds, taken = time.process_time() - started, memory.taken()
    if costs is not None:
        costs.append((seconds, taken))
    if hang_seconds is not None and seconds > hang_seconds:
        raise Violation(f"{seconds:.1f} s of processor time, at most {hang_seconds} are allowed")
    cap = CAP + CAP_PER_PARAMETER * spec.num_parameters
    if taken > cap:
        raise Violation(f"{taken >> 20} MiB taken, at most {cap >> 20} are allowed")
    return outcome


def _dtype_of(tensor):
    return np.dtype("float32" if tensor.is_float else "int64")


class Memory:
    """How much more memory the process had at any time since this was made than it had then."""

    def __init__(self):
        # What was freed but is still held would hide what is taken next.
        if trim := getattr(ctypes.pythonapi, "malloc_trim", None):
            trim(0)
        # "5" sets the highest resident memory back to what there is now; nothing does that for the address space.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_bytes(b"5")
        self._before = _memory()

    def taken(self):
        now, before = _memory(), self._before
        resident = now["VmHWM"] - before["VmRSS"]
        # Memory that was taken but never touched shows only here, and only where it is more than there ever was.
        reserved = now["VmPeak"] - before["VmSize"] if now["VmPeak"] > before["VmPeak"] else 0
        return max(resident, reserved)


def _memory():
    """Return the process's memory in bytes by its names in /proc/self/status; zeros where there is no such file."""
    try:
        text = Path("/proc/self/status").read_bytes()
    except OSError:
        return dict.fromkeys(("VmPeak", "VmSize", "VmHWM", "VmRSS"), 0)
    fields = (line.split() for line in text.splitlines() if line.startswith(b"Vm"))
    return {field[0][:-1].decode(): int(field[1]) << 10 for field in fields}
