"""The examples under deploy/: what they are made of is there, what they promise holds, and they agree.

Neither a container engine nor a running systemd is needed here; docs/operations.md says what was checked besides.
"""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from clients.__main__ import app as client
from server.__main__ import app as server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())

OPTIONS = {
    name: {option for parameter in get_command(app).params for option in parameter.opts}
    for name, app in (("server", server), ("clients", client))
}
"""The commands' interface."""


def dockerfile():
    """Return (instruction, arguments) pairs; comments are left out and lines that go on are joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def stages():
    """Return the instructions of each stage of the Dockerfile, by its name."""
    found = {}
    for instruction, arguments in dockerfile():
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            found[name] = [("FROM", base)]
        elif found:
            found[name].append((instruction, arguments))
    return found


def unit(path):
    """Read a unit's file: sections of keys, each with all its values."""
    sections = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#", interpolation=None)
    sections.optionxform = str
    sections.read_string(re.sub(r"\\\n\s*", " ", path.read_text()))
    return sections


def options_of(words):
    return {word.partition("=")[0] for word in words if word.startswith("--")}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_caged_and_starts_again(path):
    service = unit(path)["Service"]
    expected = {
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "UMask": "0077",
        "Restart": "on-failure",
        "RestartPreventExitStatus": "2",
        "StateDirectoryMode": "0700",
    }
    assert {key: service.get(key) for key in expected} == expected
    assert service.get("DynamicUser") == "yes" or service["User"] not in ("root", "0")
    assert service["StateDirectory"] == path.stem
    assert re.search(r"^#MemoryMax=", path.read_text(), re.MULTILINE)
    assert unit(path)["Unit"]["StartLimitIntervalSec"] == "0"
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).is_absolute()
    assert words[0] == "-m"
    assert options_of(words) <= OPTIONS[words[1]]


def test_the_server_of_the_unit_shows_its_figures_to_this_machine_only():
    started = unit(DEPLOY / "systemd" / "fedcomp-server.service")["Service"]["ExecStart"]
    assert "--metrics 127.0.0.1:" in started
    assert {"--tls", "--require-keys", "--resume"} <= options_of(shlex.split(started))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_unit_and_finds_it_well_caged(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("/opt/fedcomp/.venv/bin/python", sys.executable))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60
    )
    said = [
        line for line in verified.stderr.splitlines() if "RestartSteps" not in line and "RestartMaxDelay" not in line
    ]
    assert (verified.returncode, said) == (0, [])
    subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", copy], check=True, timeout=60)


def test_the_dockerfile_copies_what_is_there_and_what_the_context_lets_in():
    allowed = re.findall(r"^!(\S+)", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [
        word
        for instructions in stages().values()
        for instruction, arguments in instructions
        if instruction == "COPY" and not arguments.startswith("--from=")
        for word in arguments.split()[:-1]
    ]
    assert set(copied) == set(allowed)
    assert all((ROOT / name).exists() for name in copied)
    assert (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()[1] == "*"


def test_the_images_run_as_nobody_special_and_start_the_processes():
    found = stages()
    for name, module in (("server", "server"), ("client", "clients")):
        runs = dict(found[name])
        assert runs["FROM"] == "runtime"
        assert runs["USER"] == "10001"
        assert yaml.safe_load(runs["ENTRYPOINT"]) == ["python", "-m", module]
        (installed,) = {re.search(r"--from=(\S+)", text)[1] for kind, text in found[name] if kind == "COPY"}
        assert any("-c constraints.txt" in text for kind, text in found[installed] if kind == "RUN")
    names = [*found, *(base for stage in found.values() for _, base in stage[:1])]
    assert all(":" not in name or re.search(r":\S+-slim$", name) for name in names)
    assert not {"ADD", "MAINTAINER"} & {instruction for instruction, _ in dockerfile()}


@pytest.mark.parametrize(("extras", "installs"), [("", "."), ("train,operations", ".[train,operations]")])
def test_extras_are_a_build_argument_and_may_be_none(extras, installs):
    (command,) = {
        arguments for name, arguments in stages()["client-install"] if name == "RUN" and "pip install" in arguments
    }
    words = command.replace("pip install", "printf '%s\\n'")
    shown = subprocess.run(
        ["sh", "-c", words], env={"CLIENT_EXTRAS": extras}, capture_output=True, text=True, check=True, timeout=20
    )
    assert shown.stdout.splitlines()[-1] == installs


def test_the_containers_of_the_compose_file_are_caged():
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "on-failure"
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys()


def test_the_commands_of_the_compose_file_are_those_of_the_processes():
    services = COMPOSE["services"]
    assert options_of(services["server"]["command"]) <= OPTIONS["server"]
    assert options_of(services["client-1"]["command"]) <= OPTIONS["clients"]
    for service in services.values():
        mounted = [volume.split(":")[1] for volume in service["volumes"]]
        paths = [word.partition("=")[2] for word in service.get("command", []) if "=/" in word]
        assert all(any(path == target or path.startswith(f"{target}/") for target in mounted) for path in paths)
        if build := service.get("build"):
            assert build["target"] in stages()
            assert (DEPLOY / build["context"] / build["dockerfile"]).exists()


def test_a_client_is_given_its_own_key_and_nobody_elses():
    for name in ("client-1", "client-2"):
        mounts = [volume.split(":") for volume in COMPOSE["services"][name]["volumes"]]
        assert {mount[0] for mount in mounts if mount[0].startswith("./tls")} == {
            "./tls/ca.crt",
            f"./tls/nodes/{name}.key",
        }
        assert all(mount[2:] == ["ro"] for mount in mounts if mount[0].startswith("."))


def test_clients_find_the_server_and_nothing_else_is_published():
    services = COMPOSE["services"]
    (port,) = (word.rpartition(":")[2] for word in services["server"]["command"] if word.startswith("--listen="))
    assert [port_ for service in services.values() for port_ in service.get("ports", [])] == [f"{port}:{port}"]
    assert f"--server=server:{port}" in services["client-1"]["command"]
    assert {"--tls=/etc/fedcomp/tls", "--require-keys", "--resume"} <= set(services["server"]["command"])
