"""The command line in processes that kill themselves at a given moment.

`python -m tests.simulation.killed` reads lines of JSON, a moment and arguments, and answers each with the status of a
process that it forked for it. What a run imports is imported once, by a first one: that makes these tests short.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile

import torch

import server.app
from fedcomp.cli import run
from fedcomp.files import FileWriter
from fedcomp.flower import CompressedStrategy, RoundTraffic, checkpoint
from fedcomp.forking import import_what_torch_puts_off
from fedcomp.reporting import RunFolder


def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def after(function, is_the_moment):
    """Return the function with a death behind it, when it is the moment."""

    def wrapped(*args, **kwargs):
        result = function(*args, **kwargs)
        if is_the_moment(*args):
            die()
        return result

    return wrapped


def die_before_any_round():
    RunFolder.write_config = after(RunFolder.write_config, lambda *_: True)


def die_after_row_3():
    RunFolder.write_round = after(RunFolder.write_round, lambda _, row: row["round"] == 3)


def die_within_round_4():
    """The fourth round's third update is in, others are on the way."""
    set_attribute = RoundTraffic.__setattr__

    def set_and_look(self, name, value):
        set_attribute(self, name, value)
        if (name, value) == ("accepted", 3) and self.round == 4:
            die()

    RoundTraffic.__setattr__ = set_and_look


def die_while_clients_are_written():
    """The third checkpoint has some of its clients, the last one's file half written."""
    writes = []

    def write(self, path, parcel):
        writes.append(path)
        if path.name.endswith("-3") and sum(each.name.endswith("-3") for each in writes) == 2:
            path.write_bytes(parcel[: len(parcel) // 2])
            die()
        original(self, path, parcel)

    original, FileWriter.write = FileWriter.write, write


def die_while_models_are_written():
    """The fourth file of a model that clients hold is half written."""
    writes = []

    def write(self, path, content):
        writes.append(path.parent.name == "models")
        if sum(writes) == 4:
            path.write_bytes(content[: len(content) // 2])
            die()
        original(self, path, content)

    original, FileWriter.write = FileWriter.write, write


def die_before_the_checkpoint_counts():
    """All of the third checkpoint is written, but its file is not in place."""
    rounds = []

    def write(path, snapshot):
        rounds.append(snapshot.facts["run"]["round"])
        if rounds[-1] == 3:
            path.with_name(f".{path.name}.partial").write_bytes(b"half")
            die()
        original(path, snapshot)

    original, checkpoint.write_snapshot = checkpoint.write_snapshot, write


def die_as_soon_as_the_checkpoint_counts():
    checkpoint.write_snapshot = after(checkpoint.write_snapshot, lambda _, s: s.facts["run"]["round"] == 3)


def die_after_the_last_round():
    server.app.make_student = die


def die_after_the_step_of_round_2():
    """Any strategy's step is done, but nothing is noted about it."""
    CompressedStrategy.aggregate_train = after(CompressedStrategy.aggregate_train, lambda _, number, __: number == 2)


def run_once():
    """Do a short run in this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        short = ["num-server-rounds=1", "num-clients=2", "fraction-train=1", "teacher=none", f"out-dir={folder}/run"]
        settings = [argument for setting in short for argument in ("--set", setting)]
        with contextlib.redirect_stdout(sys.stderr):
            assert run(["simulate", "configs/demo.toml", *settings, "--workers", "0"]) == 0


if __name__ == "__main__":
    torch.set_num_threads(1)  # GNU OpenMP's threads do not survive a fork: who waits for them in the child hangs
    import_what_torch_puts_off()
    run_once()
    for line in sys.stdin:
        moment, arguments = json.loads(line)
        child = os.fork()
        if not child:
            globals()[f"die_{moment}"]()
            os.dup2(2, 1)  # what the run prints is no answer
            os._exit(run(arguments))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
