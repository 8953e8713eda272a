"""Child processes: they end with their context and with their parent, and what they say is logged."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedcomp.deployment.flower_commands import FlowerCommands
from fedcomp.deployment.processes import free_ports, is_listening, running, wait_for
from fedcomp.deployment.relay import relay
from fedcomp.errors import RunError

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def is_alive(number):
    """Whether a process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


def test_a_child_ends_with_its_context():
    with running(SLEEP, environment=os.environ, log=subprocess.DEVNULL) as process:
        assert process.poll() is None
        assert os.getsid(process.pid) == process.pid
    assert process.returncode == -signal.SIGTERM


def test_a_stubborn_child_is_killed(monkeypatch):
    monkeypatch.setattr("fedcomp.deployment.processes._SECONDS_TO_END", 0.2)
    with running(STUBBORN, environment=os.environ, log=subprocess.PIPE) as process:
        process.stdout.readline()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of a parent's end on Linux")
def test_a_child_ends_with_its_parent():
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\n"
            "from fedcomp.deployment.processes import running\n"
            f"with running({SLEEP!r}, environment=os.environ) as child:\n"
            "    print(child.pid, flush=True)\n"
            "    time.sleep(600)\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        child = int(next(line for line in parent.stdout if line.strip().isdigit()))
        assert is_alive(child)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while is_alive(child):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_waiting_ends_with_the_process_or_the_time(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        failing = [sys.executable, "-c", "exit('no room')"]
        with (
            running(failing, environment=os.environ, log=log) as process,
            pytest.raises(RunError, match="it ended with exit code 1: no room"),
        ):
            wait_for(lambda: False, process, "it", None, tmp_path / "log")
        with running(SLEEP, environment=os.environ, log=log) as process:
            with pytest.raises(RunError, match="it was not up within"):
                wait_for(lambda: False, process, "it", 0.2)
            wait_for(lambda: True, process, "it", 0)


def test_free_ports_differ_and_nobody_listens():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not any(map(is_listening, ports))


def test_flowers_lines_keep_their_level_and_lose_their_colour(caplog):
    reading, writing = os.pipe()
    text = (
        b"\x1b[92mINFO \x1b[0m:      hello\n\n\x1b[93mWARNING \x1b[0m:   careful\nand more of it\n"
        + b"x" * 20_000
        + b"\n\x1b[91mERROR \x1b[0m:     \xff\n"
    )
    with os.fdopen(writing, "wb") as stream, caplog.at_level(logging.DEBUG, "test.relay"):
        relay(os.fdopen(reading, "rb"), logging.getLogger("test.relay"))
        stream.write(text)
        stream.flush()
        stream.close()
        deadline = time.monotonic() + 30
        while not any(record.levelno == logging.ERROR for record in caplog.records):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    said = [(record.levelname, record.getMessage()[:20]) for record in caplog.records]
    assert said[:3] == [("INFO", "hello"), ("WARNING", "careful"), ("WARNING", "and more of it")]
    assert said[-1] == ("ERROR", "\N{REPLACEMENT CHARACTER}")
    assert all(len(record.getMessage()) <= 8192 for record in caplog.records)


def test_what_flower_refuses_is_one_error(tmp_path):
    flower = FlowerCommands(tmp_path / "home", {"address": "127.0.0.1:9", "insecure": True})
    with pytest.raises(RunError, match="flwr no-such-command"):
        flower("no-such-command")
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
