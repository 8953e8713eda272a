"""A ClientApp's process that is forked instead of started: the same command, the same answers."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from fedcomp.deployment.flower_commands import flower_environment
from fedcomp.deployment.warm import warm_clientapp


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    with warm_clientapp(folder / "here", flower_environment(folder / "home")) as environment:
        yield environment


def run(environment, *arguments, cwd=None):
    return subprocess.run(
        ["flwr-clientapp", *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_it_is_the_first_of_its_name(warm):
    assert Path(warm["PATH"].split(os.pathsep)[0]).name == "here"
    assert os.stat(Path(warm["PATH"].split(os.pathsep)[0])).st_mode & 0o077 == 0


@pytest.mark.parametrize("arguments", [["--help"], ["--token"], ["--no-such-option"]])
def test_it_says_what_the_command_says(warm, tmp_path, arguments):
    expected = run(flower_environment(tmp_path), *arguments)
    found = run(warm, *arguments)
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)
    assert found.stderr == expected.stderr


def waiting():
    """Return the ids of this process's children that wait for requests."""
    children = subprocess.run(
        ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    return {int(line.split()[0]) for line in children.splitlines() if "fedcomp.deployment.warm" in line}


def test_torch_is_there_before_the_app(warm):
    (number,) = waiting()
    assert "libtorch" in Path(f"/proc/{number}/maps").read_text()  # the kernel says what it has mapped


def test_where_nobody_waits_any_more_nothing_is_left_and_the_command_runs_as_ever(tmp_path):
    others = waiting()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        warm_clientapp(tmp_path / "here", flower_environment(tmp_path / "home")) as environment,
    ):
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        asked = subprocess.Popen(
            ["flwr-clientapp", "--insecure", "--runtime-api-address", address, "--token", "x"],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        silent.settimeout(60)
        with silent.accept()[0]:  # it is up, and waits for an answer
            (number,) = waiting() - others
            os.kill(number, signal.SIGKILL)
            assert asked.wait(30) == 1
        found = run(environment, "--help")
    assert found.returncode == 0
    assert "ClientApp" in found.stdout
