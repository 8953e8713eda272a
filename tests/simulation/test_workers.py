"""Clients in worker processes: how they fail, what is shared, and that nothing is left behind."""

import contextlib
import ctypes
import errno
import faulthandler
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedcomp import forking
from fedcomp.errors import RunError
from tests.simulation.grids import answer, ask, count_calls, echo, grid_of, messages, partitions, values

pytestmark = pytest.mark.skipif(not forking.can_fork(), reason="worker processes need Linux")


def read_from_nowhere():
    faulthandler.disable()  # pytest's, which would print pages
    ctypes.string_at(0)


def signal_oneself(number):
    os.kill(os.getpid(), number)
    time.sleep(60)  # the kernel may take a moment to deliver it


FAILURES = {
    "exit": ("its process ended with exit code 3", lambda: os._exit(3)),
    "kill": ("its process was killed by SIGKILL", lambda: signal_oneself(signal.SIGKILL)),
    "segfault": ("its process was killed by SIGSEGV", read_from_nowhere),
    "terminate": ("its process was killed by SIGTERM", lambda: signal_oneself(signal.SIGTERM)),
    "real-time": ("its process was killed by signal 40", lambda: signal_oneself(40)),
    "hang": ("no answer within 1 s", lambda: time.sleep(60)),
    "stop": ("no answer within 1 s", lambda: signal_oneself(signal.SIGSTOP)),
}


def children(process=None):
    """Return the process ids of all descendants."""
    found = []
    for entry in Path(f"/proc/{process or os.getpid()}/task").iterdir():
        with contextlib.suppress(OSError):
            direct = [int(child) for child in (entry / "children").read_text().split()]
            found += direct + [grandchild for child in direct for grandchild in children(child)]
    return found


def descriptors():
    """Return what descriptors are of, numbered where several are of the same; gRPC opens its own anew at each fork."""
    seen = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            seen[os.readlink(f"/proc/self/fd/{number}")] += 1
    return [f"{name} {number}" for name, count in seen.items() for number in range(count)]


def everything_open():
    """Return what a grid could leave behind: descendants, descriptors, threads, folders, shared memory."""
    gc.collect()
    shared_memory = Path("/dev/shm")
    return {
        "processes": children(),
        "descriptors": descriptors(),
        "threads": [thread.ident for thread in threading.enumerate()],
        "folders": sorted(path.name for path in Path(tempfile.gettempdir()).glob("fedcomp-*")),
        "shared memory": sorted(path.name for path in shared_memory.glob("*fedcomp*"))
        if shared_memory.exists()
        else [],
    }


def left_behind(before):
    """Return what is open now and was not before; what others have closed meanwhile does not count."""
    now = everything_open()
    return {kind: new for kind in now if (new := sorted(set(now[kind]) - set(before[kind])))}


def has_ended(process):
    """Tell whether a process has ended; its parent may not have noticed."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition):
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Let no other test's folders be seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("kind", FAILURES)
def test_a_client_that_ends_or_blocks_its_process_is_an_error_and_the_round_goes_on(kind):
    reason, fail = FAILURES[kind]

    def train(message, context):
        partition, count = context.node_config["partition-id"], count_calls(context)
        if partition == 2 and message.content["config"]["fail"]:
            fail()
        return answer(message, count=count)

    before = everything_open()
    with grid_of(train, 6, num_workers=2, client_timeout=1.0 if "within" in reason else None) as grid:
        calm, fatal = (RecordDict({"config": ConfigRecord({"fail": fails})}) for fails in (False, True))
        assert values(ask(grid, calm), "count") == [0] * 6
        assert values(ask(grid, fatal), "count") == [1, 1, reason, 1, 1, 1]
        assert values(ask(grid, fatal), "count") == [2, 2, reason, 2, 2, 2]
        assert values(ask(grid, calm), "count") == [3, 3, 1, 3, 3, 3]  # a failed call leaves the state of before
        assert len(children()) == 3
    assert not left_behind(before)


def test_every_client_ends_its_process():
    with grid_of(lambda message, context: os._exit(1), 9, num_workers=2) as grid:
        assert partitions(ask(grid)) == ["its process ended with exit code 1"] * 9


def test_a_worker_that_is_killed_while_it_waits_is_replaced():
    with grid_of(lambda message, context: answer(message, process=os.getpid()), 4, num_workers=2) as grid:
        before = set(values(ask(grid), "process"))
        for process in before:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
        after = set(values(ask(grid), "process"))
        assert all(isinstance(process, int) for process in after)
        assert before.isdisjoint(after)


def test_a_worker_that_ends_over_a_client_while_the_server_is_busy_takes_no_other_message_along():
    def train(message, context):
        if context.node_config["partition-id"] == 0:
            os._exit(3)
        return answer(message, partition=context.node_config["partition-id"], count=count_calls(context))

    with grid_of(train, 4, num_workers=1) as grid:
        ask(grid, timeout=60)
        fatal, *rest = messages(grid)
        ids = list(grid.push_messages([fatal]))
        _, worker = children()
        wait_for(lambda: has_ended(worker))
        ids += grid.push_messages(rest)
        replies = {}
        while len(replies) < 4:
            replies |= {reply.metadata.reply_to_message_id: reply for reply in grid.pull_messages(ids)}
        replies = [replies[message_id] for message_id in ids]
        assert partitions(replies) == ["its process ended with exit code 3", 1, 2, 3]
        assert values(replies[1:], "count") == [1, 1, 1]
        assert values(ask(grid)[1:], "count") == [2, 2, 2]


def test_what_a_client_has_forked_does_not_hide_that_its_process_has_ended():
    reading, writing = os.pipe()

    def train(message, context):
        if not os.fork():
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        os._exit(3)

    with os.fdopen(reading), os.fdopen(writing), grid_of(train, 1, num_workers=1) as grid:
        assert partitions(ask(grid, timeout=10)) == ["its process ended with exit code 3"]


def test_a_dead_zygote_is_one_clear_error_and_takes_its_workers_along():
    with grid_of(echo, num_workers=2) as grid:
        ask(grid)
        _, *workers = children()
        os.kill(grid._engine._zygote._process_id, signal.SIGKILL)
        wait_for(lambda: all(map(has_ended, workers)))
        with pytest.raises(RunError, match="zygote process is gone"):
            ask(grid)


def test_a_grid_that_is_forgotten_closes_itself():
    before = everything_open()
    grid = grid_of(echo, num_workers=2)
    ask(grid)
    assert len(children()) == 3
    del grid
    assert not left_behind(before)


def test_a_round_that_raises_leaves_nothing():
    def break_off():
        with grid_of(echo, 20, num_workers=2) as grid:
            for number, _ in enumerate(grid.send_and_receive(messages(grid))):
                1 / (3 - number)

    before = everything_open()
    with pytest.raises(ZeroDivisionError):
        break_off()
    assert not left_behind(before)


PROGRAM = """
import os, signal, sys, time, tempfile
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from fedcomp.simulation import LocalGrid
from fedcomp.simulation.identity import task_identity
tempfile.tempdir = sys.argv[1]
signal.signal(signal.SIGINT, signal.default_int_handler)  # both are ignored where the tests run in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)
app = ClientApp()

@app.train()
def train(message, context):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)

with task_identity(run_id=1, node_id=1), LocalGrid(app, num_nodes=2, num_workers=2) as grid:
    list(grid.send_and_receive([Message(RecordDict(), node, "train") for node in grid.get_node_ids()]))
"""


@pytest.mark.parametrize("whole_group", [False, True], ids=["program", "group"])
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_is_killed_in_a_round_leaves_nothing(tmp_path, kill, whole_group):
    if whole_group and kill == signal.SIGKILL:
        pytest.skip("nobody is left to remove the states' folder")
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    workers = [int(program.stdout.readline()) for _ in range(2)]
    assert list(tmp_path.iterdir())
    os.killpg(program.pid, kill) if whole_group else program.send_signal(kill)
    program.wait(20)
    wait_for(lambda: all(map(has_ended, workers)) and not list(tmp_path.iterdir()))
    program.stdout.close()


def test_arrays_that_all_messages_carry_are_written_once():
    def train(message, context):
        return answer(message, total=float(message.content["arrays"]["w"].numpy().sum()))

    with grid_of(train, 10, num_workers=2) as grid:
        shared = grid._engine._broadcasts
        record = ArrayRecord({"w": Array(np.ones(100_000))})
        assert values(ask(grid, RecordDict({"arrays": record})), "total") == [100_000.0] * 10
        assert shared.num_shared == 1
        apart = messages(grid)
        for number, message in enumerate(apart):
            message.content = RecordDict({"arrays": record, "config": ConfigRecord({"number": number})})
        assert values(grid.send_and_receive(apart), "total") == [100_000.0] * 10
        assert shared.num_shared == 1
        record["w"] = Array(np.full(100_000, 2.0))
        assert values(ask(grid, RecordDict({"arrays": record})), "total") == [200_000.0] * 10
        assert shared.num_shared == 2
        for number, message in enumerate(apart):
            message.content = RecordDict({"arrays": ArrayRecord({"w": Array(np.full(50_000, float(number)))})})
        assert values(grid.send_and_receive(apart), "total") == [50_000.0 * number for number in range(10)]


def test_a_worker_copies_shared_arrays_once():
    def train(message, context):
        return answer(message, process=os.getpid(), identity=id(message.content["arrays"]["w"].data))

    with grid_of(train, 12, num_workers=2) as grid:
        replies = ask(grid, RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(1000))})}))
        seen = set(zip(values(replies, "process"), values(replies, "identity"), strict=True))
        assert len(seen) == len(set(values(replies, "process")))


def test_records_of_any_size_and_kind_come_back_as_they_were():
    content = RecordDict(
        {
            "empty": ArrayRecord(),
            "small": ConfigRecord({"bytes": b"\0" * 5, "list": [1.5, 2.5], "bool": True, "nothing": []}),
            "large": ConfigRecord({"bytes": os.urandom(300_000)}),
            "arrays": ArrayRecord(
                {str(i): Array("uint8", (size,), "raw", os.urandom(size)) for i, size in enumerate([0, 1, 10, 2**21])}
            ),
            "many": ArrayRecord({f"layer.{i}": Array(np.full((3, 1), i, np.float32)) for i in range(3000)}),
        }
    )
    with grid_of(lambda message, _: Message(message.content, reply_to=message), 6, num_workers=2) as grid:
        for reply in grid.send_and_receive(messages(grid, content), timeout=60):
            assert list(reply.content) == list(content)
            assert reply.content == content


class FullDisk(io.StringIO):
    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stream", [None, FullDisk()], ids=["closed", "full"])
def test_output_that_can_not_be_written_fails_no_client(monkeypatch, stream):
    def train(message, context):
        print("trains")
        return echo(message, context)

    monkeypatch.setattr(sys, "stdout", stream)
    with grid_of(train, num_workers=1) as grid:
        assert partitions(ask(grid)) == [0, 1, 2]


def test_what_can_not_be_sent_is_an_error():
    def train(message, context):
        reply = echo(message, context)
        if context.node_config["partition-id"] == 1:
            reply.content["arrays"] = ArrayRecord({"w": Array("x", (1,), "raw", b"x")})
            reply.content["arrays"]["w"].data = None
        return reply

    with grid_of(train, num_workers=1) as grid:
        first, second, third = ask(grid)
        assert partitions([first, third]) == [0, 2]
        assert "TypeError" in second.error.reason


def test_few_replies_wait_while_the_server_is_busy(tmp_path):
    done = tmp_path / "done"
    done.mkdir()

    def train(message, context):
        (done / str(context.node_config["partition-id"])).touch()
        return Message(
            RecordDict({"a": ArrayRecord({"w": Array("uint8", (10**5,), "raw", bytes(10**5))})}), reply_to=message
        )

    with grid_of(train, 200, num_workers=2) as grid:
        most_ahead = 0
        for number, _ in enumerate(grid.send_and_receive(messages(grid))):
            if number % 20 == 0:
                time.sleep(0.02)
            most_ahead = max(most_ahead, len(list(done.iterdir())) - number)
        assert 2 < most_ahead <= grid._engine.window


def test_a_slow_client_does_not_let_replies_pile_up(tmp_path):
    def train(message, context):
        if context.node_config["partition-id"] == 0:
            time.sleep(0.5)
        (tmp_path / str(context.node_config["partition-id"])).touch()
        return echo(message, context)

    with grid_of(train, 100, num_workers=2) as grid:
        replies = iter(grid.send_and_receive(messages(grid)))
        assert partitions([next(replies)]) == [0]
        assert len(list(tmp_path.glob("[0-9]*"))) <= grid._engine.window
        assert partitions(replies) == [*range(1, 100)]


def test_workers_use_one_thread_and_the_program_its_own(monkeypatch):
    torch = pytest.importorskip("torch")
    before, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(2)
    try:
        (torch.ones(500, 500) @ torch.ones(500, 500)).sum()  # the program's pool exists before the fork

        def train(message, context):
            threads = torch.get_num_threads()
            torch.set_num_threads(2)  # an app may; GNU OpenMP would hang here in a forked thread
            loss = (torch.ones(500, 500, requires_grad=True) @ torch.ones(500, 500)).sum()
            loss.backward()
            torch.set_num_threads(1)
            return answer(message, threads=threads, variable=os.environ["OMP_NUM_THREADS"])

        with grid_of(train, 4, num_workers=2, client_timeout=60) as grid:
            replies = ask(grid)
        assert values(replies, "threads") == [1] * 4
        assert values(replies, "variable") == ["1"] * 4
        assert torch.get_num_threads() == 2
        assert os.environ.get("OMP_NUM_THREADS") == variable
    finally:
        torch.set_num_threads(before)


def test_what_the_warm_up_loads_is_there_in_every_worker_and_its_replacement():
    loaded = []

    def train(message, context):
        if context.node_config["partition-id"] == 0:
            os._exit(1)
        return answer(message, by=loaded, process=os.getpid())

    with grid_of(train, 6, num_workers=2, warm_up=lambda: loaded.append(os.getpid())) as grid:
        _, *replies = ask(grid) + ask(grid)[1:]
        zygote = grid._engine._zygote._process_id
        assert values(replies, "by") == [[zygote]] * 10
        assert zygote not in values(replies, "process")
    assert loaded == []


def test_getting_ready_takes_no_time_from_the_clients():
    with grid_of(echo, num_workers=1, warm_up=lambda: time.sleep(1), client_timeout=0.9) as grid:
        assert partitions(ask(grid)) == [0, 1, 2]


def test_a_warm_up_that_fails_is_left_for_the_clients_to_find():
    with grid_of(echo, num_workers=1, warm_up=lambda: 1 / 0) as grid:
        assert partitions(ask(grid)) == [0, 1, 2]


def test_grids_side_by_side():
    with grid_of(echo, 4, num_workers=2) as outer:
        with grid_of(echo, 3, num_workers=2, seed=1) as inner:
            assert partitions(ask(outer)) == [0, 1, 2, 3]
            assert partitions(ask(inner)) == [0, 1, 2]
        assert partitions(ask(outer)) == [0, 1, 2, 3]


def test_rounds_side_by_side():
    with grid_of(lambda message, context: answer(message, count=count_calls(context)), 6, num_workers=2) as grid:
        first, second = (iter(grid.send_and_receive(messages(grid))) for _ in range(2))
        counts = [values(pair, "count") for pair in zip(first, second, strict=True)]
        assert all(sorted(pair) == [0, 1] for pair in counts)


def test_memory_does_not_grow_with_the_clients():
    def train(message, context):
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    def resident():
        return sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) * 4096 for p in [os.getpid(), *children()])

    size = 2**20
    with grid_of(train, 300, num_workers=2) as grid:
        content = RecordDict({"arrays": ArrayRecord({"w": Array("uint8", (size,), "raw", bytes(size))})})
        few = messages(grid, content)[:40]
        assert sum(1 for _ in grid.send_and_receive(few)) == 40
        before = resident()
        assert sum(1 for _ in grid.send_and_receive(messages(grid, content))) == 300
        assert resident() - before < 60 * size
