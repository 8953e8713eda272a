"""Laws of the store, in a folder and in memory."""

import errno
import os
import threading
import uuid
from datetime import UTC, datetime

import pytest

from fedcomp.cli import run
from fedcomp.errors import ArtifactError, StoreError, UnknownModel, UsageError
from fedcomp.store import Manifest, ModelStore
from tests.store.tiny import manifest_of, tiny_artifact


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return ModelStore(str(tmp_path / "models") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def put(store, artifact, name="tiny", **changes):
    return store.put(manifest_of(artifact, name, **changes), artifact)


def test_what_is_put_comes_back_newest_last(store):
    assert store.names() == store.versions("tiny") == []
    artifacts = [tiny_artifact(seed) for seed in (0, 1)]
    versions = [put(store, artifact) for artifact in artifacts]
    assert store.names() == ["tiny"]
    assert store.versions("tiny") == versions
    assert store.resolve("tiny") == versions[-1]
    assert store.manifest(versions[0]) == manifest_of(artifacts[0])
    assert store.artifact(manifest_of(artifacts[0]).artifact) == artifacts[0]
    assert store.resolve("tiny", versions[0].digest) == versions[0]
    assert store.resolve("tiny", manifest_of(artifacts[0]).artifact) == versions[0]
    store.delete("tiny", versions[1])
    assert store.resolve("tiny") == versions[0]


def test_the_same_bytes_are_kept_once(store):
    artifact = tiny_artifact()
    for name in ("a", "b"):
        put(store, artifact, name)
    assert len(store._objects.digests()) == 3  # an artifact, two manifests


def test_what_is_not_there_is_said(store):
    put(store, tiny_artifact())
    for name, digest in (("other", None), ("tiny", "0" * 64)):
        with pytest.raises(UnknownModel):
            store.resolve(name, digest)
    with pytest.raises(UnknownModel):
        store.artifact("0" * 64)
    with pytest.raises(ValueError, match="another artifact"):
        store.put(manifest_of(tiny_artifact()), tiny_artifact(1))


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "A", "a\0", "a\n", ".hidden", "x" * 65, "é", "-"])
def test_a_name_is_never_a_path(store, name):
    with pytest.raises(UsageError):
        store.resolve(name)
    with pytest.raises(UsageError):
        store.resolve("tiny", name)
    with pytest.raises(ValueError, match="model is called"):
        manifest_of(tiny_artifact(), name)


def test_nothing_is_lost_when_many_write_at_once(store):
    artifacts = [tiny_artifact(seed) for seed in range(3)]
    created = [[], [], []]

    def write(number):
        for second in range(5):
            moment = datetime(2026, 1, 1 + number, 0, 0, second, tzinfo=UTC)
            created[number].append(put(store, artifacts[number], created=moment))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = store.versions("tiny")
    assert sorted(versions) == versions == sorted(version for own in created for version in own)
    for own in created:
        assert own == sorted(own)
    assert {store.manifest(version).artifact for version in versions} == {manifest_of(a).artifact for a in artifacts}


def test_a_collection_keeps_the_newest_and_what_they_need(store):
    artifacts = [tiny_artifact(seed) for seed in range(3)]
    for artifact in artifacts:
        put(store, artifact)
    put(store, artifacts[0], "other")
    assert store.collect(5, grace_seconds=0) == (0, 0)
    assert store.collect(1) == (2, 0)  # objects are young
    assert store.collect(1, grace_seconds=0) == (0, 3)  # two manifests, the second artifact
    assert [store.artifact(manifest_of(a).artifact) for a in (artifacts[0], artifacts[2])] == [
        artifacts[0],
        artifacts[2],
    ]


@pytest.mark.parametrize("keep_last", [0, -1])
def test_a_collection_that_would_keep_nothing_is_refused(store, keep_last):
    versions = [put(store, tiny_artifact(seed)) for seed in (0, 1)]
    with pytest.raises(UsageError, match="expected 1 or more"):
        store.collect(keep_last, grace_seconds=0)
    assert store.versions("tiny") == versions


def test_damage_is_found_wherever_it_is(tmp_path):
    store, artifact = ModelStore(str(tmp_path)), tiny_artifact()
    version = put(store, artifact)
    for digest, read in (
        (manifest_of(artifact).artifact, lambda: store.artifact(manifest_of(artifact).artifact)),
        (version.digest, lambda: store.manifest(version)),
    ):
        path = tmp_path / "objects" / digest[:2] / digest
        content = path.read_bytes()
        for damaged in (b"", content[:-1], content + b"x", bytes([content[0] ^ 1]) + content[1:], b"x" * (1 << 17)):
            path.write_bytes(damaged)
            with pytest.raises(ArtifactError):
                read()
        path.write_bytes(content)
        read()


def test_a_damaged_manifest_can_be_deleted_and_hides_no_other(tmp_path):
    store = ModelStore(str(tmp_path))
    old, damaged = (put(store, tiny_artifact(seed)) for seed in (0, 1))
    (tmp_path / "objects" / damaged.digest[:2] / damaged.digest).write_bytes(b"{}")
    assert store.resolve("tiny", old.digest) == old
    with pytest.raises(ArtifactError):
        store.collect(1)
    store.delete("tiny", store.resolve("tiny", damaged.digest))
    store.collect(1)
    assert store.versions("tiny") == []


def test_what_could_not_be_written_takes_no_space(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ModelStore(str(tmp_path))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left"):
        put(store, tiny_artifact())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_onnx_file_that_can_not_be_written_is_a_usage_error(tmp_path, capsys):
    put(ModelStore(str(tmp_path)), tiny_artifact())
    assert run(["store", "unpack", "tiny", str(tmp_path / "nowhere" / "tiny.onnx"), "--store", str(tmp_path)]) == 2
    assert "can't write" in capsys.readouterr().err


def test_strangers_files_are_passed_over(tmp_path):
    store = ModelStore(str(tmp_path))
    version = put(store, tiny_artifact())
    for place in ("models/tiny/readme", "models/tiny/0-abc", "objects/zz", "objects/ab/half.partial"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
    assert store.versions("tiny") == [version]
    assert len(store._objects.digests()) == 2
    (tmp_path / "models" / "UPPER").mkdir()
    assert store.names() == ["tiny"]


def test_unusable_urls(tmp_path):
    with pytest.raises(UsageError, match="nonsense"):
        ModelStore("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        put(ModelStore(str(tmp_path / "file")), tiny_artifact())


@pytest.mark.parametrize("change", [b"", b"{}", b"[" * 100_000, b"\xff", b"x" * 70_000])
def test_manifests_of_strangers(change):
    with pytest.raises(ArtifactError, match="manifest"):
        Manifest.from_bytes(change)


def test_a_manifest_is_the_same_after_json():
    manifest = manifest_of(tiny_artifact(), accuracy={"stored_test": 0.5}, card={"a": [1, None]}, parent="0" * 64)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    with pytest.raises(UsageError, match="cut the card"):
        manifest_of(tiny_artifact(), card={"x": "y" * 70_000}).to_bytes()
