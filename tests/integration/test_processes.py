"""A server and clients as real processes: TLS, keys, strangers at the door."""

import contextlib
import gzip
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedcomp.benchmarks.server.federation import Federation
from fedcomp.data.idx import find_idx, read_idx
from fedcomp.deployment import NodeKeys, create_authority
from fedcomp.errors import DataError

FASHION = "/usr/share/datasets/fashion-mnist"


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes(), 1))


def some_fashion(count):
    """Return some of Fashion-MNIST, or where it is not installed enlarged digits of the same shape."""
    with contextlib.suppress(DataError, OSError):
        folder = Path(FASHION)
        images = read_idx(find_idx(folder, "train-images-idx3-ubyte"), num_dims=3)
        return images[:count], read_idx(find_idx(folder, "train-labels-idx1-ubyte"), num_dims=1)[:count]
    pixels, labels = load_digits(return_X_y=True)
    small = np.rint(pixels[:count].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2))), labels[:count].astype(np.uint8)


@pytest.fixture
def fashion(tmp_path):
    """Make a server's data set and two clients' folders of IDX files."""
    images, labels = some_fashion(600)
    parts = {"server": slice(0, 400), "client-a": slice(400, 500), "client-b": slice(500, 600)}
    for name, part in parts.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for kind in ("train", "t10k") if name == "server" else ("train",):
            write_idx(folder / f"{kind}-images-idx3-ubyte", images[part])
            write_idx(folder / f"{kind}-labels-idx1-ubyte", labels[part])
    return tmp_path / "data"


def test_two_clients_with_tls_and_keys(tmp_path, fashion):
    tls, other_tls = tmp_path / "tls", tmp_path / "other"
    for folder in (tls, other_tls):
        create_authority(folder)
    keys = [NodeKeys(tls / "nodes").create(name)[1] for name in ("a", "b")]
    strange_key = NodeKeys(other_tls / "nodes").create("stranger")[1]
    federation = Federation(
        tmp_path, tls=tls, keys=[*keys, strange_key], num_server_rounds=2, dataset="fashion-mnist",
        data_dir=fashion / "server", validation_size=20, proxy_size=0, model="cnn", codec="q8", label_fraction=1.0,
        objective="supervised",
    )  # fmt: skip
    federation.data = [fashion / "client-a", fashion / "client-b", fashion / "client-a"]
    with federation:
        server = federation.start_server("--log-format", "json")
        federation.wait_for(lambda: "clients come to" in federation.log("server"))
        stranger = federation.start_client(2, "--no-warm")
        wrong = federation.client_options(0, other_tls / "ca.crt")
        misled = federation.start("misled", "-m", "clients", *wrong, "--no-warm")
        assert misled.wait(60) == 1
        assert "its certificate is not trusted" in federation.log("misled")
        strangers_at_the_door(federation.port, tls / "ca.crt")
        federation.wait_for(lambda: "the SuperNode ended with exit code 1; next try in" in federation.log("client-2"))
        assert stranger.poll() is None
        federation.kill(stranger)
        for number in (0, 1):
            federation.start_client(number)
        assert server.wait(240) == 0, federation.log("server")
    assert [row["accepted"] for row in federation.rows()] == [2, 2]
    summary = federation.summary
    for way in ("uplink", "downlink"):
        assert 1 <= summary[f"wire_{way}_bytes"] / summary[f"{way}_bytes"] < 1.05
    assert all(json.loads(line)["message"] for line in federation.log("server").splitlines())


def strangers_at_the_door(port, authority):
    """Knock without TLS, without a key, and at the doors that no client needs."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        plain.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in plain.recv(1000)
    context = ssl.create_default_context(cafile=str(authority))

    def knock(path, body=b""):
        request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert knock("/v1/fleet/register-node", b"nonsense") in (400, 401, 403, 415, 422)
    for closed in ("/v1/control/list-runs", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/"):
        assert knock(closed) in (404, 405)
    assert knock("/v1/fleet/..%2fcontrol%2flist-runs") == 404
    assert knock("/v1/fleet/push-object", bytes(70 << 20)) == 413


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["server", "--listen", "0.0.0.0:8000"], "give --tls DIR, or --insecure"),
        (["server", "--require-keys"], "--require-keys needs --tls"),
        (["clients", "--server", "example.org:8000"], "give --tls CA.crt, or --insecure"),
        (["clients", "--server", "8000", "--share", "2/2"], "--share is '2/2'"),
        (["clients", "--server", "127.0.0.1:x"], "address is '127.0.0.1:x'"),
    ],
)
def test_what_would_not_be_safe_or_makes_no_sense_is_refused(tmp_path, options, complaint):
    program, *others = options
    (tmp_path / "run.toml").write_text('name = "x"\n')
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 8, 8), np.uint8), y=np.arange(4))
    given = {"server": ["--config", tmp_path / "run.toml"], "clients": ["--data", tmp_path / "images.npz"]}[program]
    done = subprocess.run(
        [sys.executable, "-m", program, *map(str, given), *others], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_client_gives_up_when_it_is_told_to(tmp_path):
    with Federation(tmp_path) as federation:
        client = federation.start_client(0, "--max-wait", "2", "--no-warm")
        assert client.wait(60) == 1
        assert "given up after" in federation.log("client-0")
