"""Forked processes: how they begin, and that they do not outlive who forked them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_INTERNAL_ERROR = 70
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS")


def can_fork() -> bool:
    """Tell whether this platform forks, watches and shares memory as the workers need it."""
    return sys.platform == "linux"


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    count = getattr(os, "process_cpu_count", None)  # from Python 3.13 on; heeds an affinity mask, too
    return (count() if count else len(os.sched_getaffinity(0))) or 1


def fork(body: Callable[[], None]) -> int:
    """Run `body` in a copy of this process, which ends with it, and return the copy's process id.

    Nothing that the program would do at its end (buffered output, exit handlers) is done twice.
    """
    flush_output()
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside threads is warned about. A lock that another thread holds in this moment
        # is a danger; idle threads, such as those of OpenMP's pool, are none to who never waits for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        process_id = os.fork()
    if process_id:
        return process_id
    status = _INTERNAL_ERROR
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the program decides what it means
        gc.freeze()  # what is there stays shared with the parent: a collection would write to all of it
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def flush_output() -> None:
    """Write out what was printed, as far as that is possible: there may be no such stream, no reader, or no room."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # whatever a program has put in their place
            stream.flush()


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the one that forked it ends in any way; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the process `parent`, which forked it, ends in any way."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(_INTERNAL_ERROR)


def use_one_thread() -> None:
    """Hold numeric libraries to one thread, as far as they are loaded and can be told; call it in that thread.

    OpenMP's count belongs to the calling thread and torch's to the process. Those of BLAS libraries are set where
    threadpoolctl is installed (scikit-learn brings it).
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    if importlib.util.find_spec("threadpoolctl"):
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def import_what_torch_puts_off() -> None:
    """Where torch is loaded, import what the first optimizer would: seconds that forked processes then share."""
    if "torch" in sys.modules:
        importlib.import_module("torch._dynamo")


def describe_end(status: int | None) -> str:
    """Say how a process ended, from its wait status; None if it could not be started."""
    if status is None:
        return "its process could not be started"
    if os.WIFSIGNALED(status):
        return f"its process was killed by {_signal_name(os.WTERMSIG(status))}"
    return f"its process ended with exit code {os.WEXITSTATUS(status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
