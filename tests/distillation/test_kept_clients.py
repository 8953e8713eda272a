"""Clients' models in a run's folder: read back as they were, one at a time, and only if they are whole."""

import json
import weakref

import numpy as np
import pytest
import xxhash

from fedcomp.distillation import KeptClients, read_clients
from fedcomp.errors import DataError, UsageError

MODEL_BYTES = 3 * 4 * 4 + 8


def model(number):
    return {"w": np.full((3, 4), number / 3, np.float32), "steps": np.array(number)}


def keep(folder, clients=(7, 3, 2**63 + 1)):
    kept = KeptClients(folder)
    for client in clients:
        kept.add(client, model(client % 10))
    kept.seal()
    return folder


def test_models_come_back_in_their_order_to_the_last_bit(tmp_path):
    found = list(read_clients(keep(tmp_path / "clients"), MODEL_BYTES))
    for weights, client in zip(found, (7, 3, 2**63 + 1), strict=True):
        assert list(weights) == ["w", "steps"]
        assert all((weights[name] == values).all() for name, values in model(client % 10).items())


def test_no_model_is_held_when_the_next_one_is_read(tmp_path):
    seen = []
    for weights in read_clients(keep(tmp_path / "clients", range(20)), MODEL_BYTES):
        seen.append(weakref.ref(weights["w"]))
        del weights
        assert sum(ref() is not None for ref in seen) == 0


def test_a_round_that_is_done_again_replaces_what_was_left(tmp_path):
    folder = tmp_path / "clients"
    KeptClients(folder).add(99, model(9))  # killed here
    (folder / ".98.safetensors.partial").write_bytes(b"half")
    with pytest.raises(UsageError, match="keep-clients = true"):
        read_clients(folder, MODEL_BYTES)
    keep(folder, (1, 2))
    assert {path.name for path in folder.iterdir()} == {"1.safetensors", "2.safetensors", "index.json"}
    assert len(list(read_clients(folder, MODEL_BYTES))) == 2


def test_nobody_is_a_round_too(tmp_path):
    assert list(read_clients(keep(tmp_path / "clients", ()), MODEL_BYTES)) == []


def flip_a_byte(folder):
    content = bytearray((folder / "3.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "3.safetensors").write_bytes(content)


def grow(name):
    def damage(folder):
        with (folder / name).open("ab") as file:
            file.truncate(1 << 40)  # sparse: a terabyte that nobody may read

    return damage


def write_index(content):
    return lambda folder: (folder / "index.json").write_text(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip_a_byte, "is damaged: its checksum is"),
        (grow("index.json"), "it has 1,099,511,627,776 bytes, expected at most"),
        (grow("3.safetensors"), "has 1,099,511,627,776 bytes, a client's model of this run has"),
        (lambda folder: (folder / "3.safetensors").unlink(), "a client's model is missing"),
        (write_index("{"), "is no index"),
        (write_index("[" * 100_000), "is no index"),
        (write_index("[]"), "is no index"),
        (write_index('{"clients": []}'), "is no index"),
        (write_index('{"clients": {"../../secret": "00"}}'), "expected its number"),
        (write_index(json.dumps({"clients": {"9" * 5000: "00"}})), "expected its number"),
        (write_index('{"clients": {"3": null}}'), "is damaged"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, damage, says):
    folder = keep(tmp_path / "clients")
    damage(folder)
    with pytest.raises(DataError, match=says):
        list(read_clients(folder, MODEL_BYTES))


def test_what_is_named_a_client_and_is_none_is_refused(tmp_path):
    folder = keep(tmp_path / "clients", ())
    (folder / "5.safetensors").write_bytes(b"none")
    write_index(json.dumps({"clients": {"5": xxhash.xxh3_64_hexdigest(b"none")}}))(folder)
    with pytest.raises(DataError, match=r"5\.safetensors"):
        list(read_clients(folder, MODEL_BYTES))
