"""What an edge client holds after a pull, whatever happens on the way."""

import contextlib
import json

import grpc
import pytest

from fedcomp.address import Address
from fedcomp.cli import run
from fedcomp.errors import ArtifactError, ServingError, UsageError
from fedcomp.serving import CallFailed, ModelClient, ModelServer, ServingLimits, pull, serving_in_thread
from fedcomp.serving.client import Opened
from fedcomp.store import ModelStore, digest_of
from tests.store.tiny import manifest_of, tiny_artifact

ARTIFACT = tiny_artifact()
UNAVAILABLE = CallFailed(grpc.StatusCode.UNAVAILABLE, "away")


class Link:
    """A client whose link breaks: each call takes the next of some numbers of bytes, or errors."""

    def __init__(self, *plan, artifact=ARTIFACT, manifest=None):
        self.plan, self.artifact, self.offsets = list(plan), artifact, []
        self.manifest = manifest or manifest_of(ARTIFACT)

    def get_manifest(self, name, digest=""):
        if self.plan and isinstance(self.plan[0], Exception):
            raise self.plan.pop(0)
        return self.manifest.to_bytes()

    def open_download(self, name, digest, offset=0):
        self.offsets.append(offset)
        return Opened(self.manifest.artifact, self.manifest.artifact_bytes, self._chunks(offset))

    def _chunks(self, offset):
        end = offset + self.plan.pop(0) if self.plan else len(self.artifact)
        for left in range(offset, min(end, len(self.artifact)), 100):
            yield self.artifact[left : min(left + 100, end)]
        if end < len(self.artifact):
            raise UNAVAILABLE


def pulled(link, folder, **options):
    pauses = []
    result = pull(link, "tiny", folder, sleep=pauses.append, **options)
    assert result.path.read_bytes() == ARTIFACT
    assert json.loads((folder / "tiny.json").read_text())["artifact"] == digest_of(ARTIFACT)
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.fcm", "tiny.json"]
    return result, pauses


def test_broken_downloads_go_on_where_they_were(tmp_path):
    link = Link(150, 0, 70)
    result, pauses = pulled(link, tmp_path / "new")
    assert link.offsets == [0, 150, 150, 220]
    assert result.received_bytes == len(ARTIFACT)
    assert pauses == [0.5, 1.0, 0.5]  # longer without a new byte


def test_another_pull_goes_on_where_one_gave_up(tmp_path):
    link = Link(150, 0)
    with pytest.raises(ServingError, match="gave up after 2 tries"):
        pull(link, "tiny", tmp_path, tries=2, sleep=lambda _: None)
    link.plan = []
    assert pulled(link, tmp_path)[0].received_bytes == len(ARTIFACT) - 150


def test_what_is_held_is_not_fetched_and_what_is_old_or_damaged_is(tmp_path):
    pulled(Link(), tmp_path)
    assert pulled(Link(), tmp_path)[0].received_bytes == 0
    for content in (b"", tiny_artifact(1), ARTIFACT[:-1] + b"x"):
        (tmp_path / "tiny.fcm").write_bytes(content)
        assert pulled(Link(), tmp_path)[0].received_bytes == len(ARTIFACT)


def test_a_partial_file_that_is_wrong_is_begun_anew(tmp_path):
    for content in (b"x" * 100, b"x" * len(ARTIFACT), b"x" * (len(ARTIFACT) + 1)):
        (tmp_path / f".tiny-{digest_of(ARTIFACT)}.partial").write_bytes(content)
        pulled(Link(), tmp_path)
        (tmp_path / "tiny.fcm").unlink()


def test_a_service_that_lies_is_refused(tmp_path):
    other, old = tiny_artifact(1), b"old"
    (tmp_path / "tiny.fcm").write_bytes(old)
    cases = [
        (Link(artifact=ARTIFACT + b"more"), {}, ArtifactError, "more than the"),
        (Link(artifact=other[: len(ARTIFACT)].ljust(len(ARTIFACT))), {}, ArtifactError, "is not artifact"),
        (Link(manifest=manifest_of(ARTIFACT, "other")), {}, ArtifactError, "for 'tiny'"),
        (Link(), {"digest": digest_of(other)}, ArtifactError, "is wanted"),
        (Link(CallFailed(grpc.StatusCode.NOT_FOUND, "none")), {}, CallFailed, "none"),
        (Link(UNAVAILABLE, UNAVAILABLE), {"tries": 2}, ServingError, "gave up after 2"),
    ]
    for link, options, kind, what in cases:
        with pytest.raises(kind, match=what):
            pull(link, "tiny", tmp_path, sleep=lambda _: None, **options)
        assert (tmp_path / "tiny.fcm").read_bytes() == old
    for name, digest in (("../x", ""), ("tiny", "abc")):
        with pytest.raises(UsageError):
            pull(Link(), name, tmp_path, digest=digest)


class Hostile:
    """A service that promises an artifact for each try, and sends as many bytes of it as asked for."""

    def __init__(self, artifacts, num_bytes, artifact_bytes=10_000):
        self.artifacts, self.num_bytes, self.artifact_bytes, self.tries = artifacts, num_bytes, artifact_bytes, 0

    def get_manifest(self, name, digest=""):
        assert self.tries < 50, "it never gives up"
        artifact = digest_of(self.artifacts(self.tries).encode())
        self.tries += 1
        offered = {"artifact": artifact, "artifact_bytes": self.artifact_bytes}
        self.manifest = manifest_of(ARTIFACT).model_copy(update=offered)
        return self.manifest.to_bytes()

    def open_download(self, name, digest, offset=0):
        return Opened(self.manifest.artifact, self.artifact_bytes, iter([b"x" * self.num_bytes]))


@pytest.mark.parametrize(
    ("service", "tries"),
    [
        (Hostile(str, 9_999), 8),
        (Hostile(lambda number: str(number // 3), 3_000), 22),
        (Hostile(lambda _: "the same", 1), 8),
    ],
    ids=["another artifact each try", "another artifact now and then", "a byte a try"],
)
def test_a_hostile_service_neither_fills_the_disk_nor_keeps_a_client_for_ever(service, tries, tmp_path):
    with pytest.raises(ServingError, match="gave up after 8 tries"):
        pull(service, "tiny", tmp_path, sleep=lambda _: None)
    assert service.tries == tries
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size <= service.artifact_bytes


def test_another_model_is_fetched_where_one_was_begun(tmp_path):
    with pytest.raises(ServingError):
        pull(Hostile(lambda _: "the same", 9_999), "tiny", tmp_path, tries=1, sleep=lambda _: None)
    pulled(Link(), tmp_path)


@pytest.fixture
def port(tmp_path):
    store = ModelStore(str(tmp_path / "models"))
    store.put(manifest_of(ARTIFACT), ARTIFACT)
    with serving_in_thread(ModelServer(store, Address("127.0.0.1", 0), ServingLimits())) as server:
        yield server.port


def test_the_command(port, tmp_path, capsys):
    out = tmp_path / "phone"
    command = ["pull", f"127.0.0.1:{port}", "tiny", "--out", str(out)]
    assert run(command) == 0
    assert f"received {len(ARTIFACT)} bytes" in capsys.readouterr().out
    assert run([*command, "--digest", digest_of(ARTIFACT)]) == 0
    assert "is held already" in capsys.readouterr().out
    assert run(["store", "unpack", str(out / "tiny.fcm"), str(tmp_path / "tiny.onnx")]) == 0
    assert run(["store", "unpack", str(out / "tiny.fcm"), str(tmp_path / "missing" / "tiny.onnx")]) == 2
    assert "missing/tiny.onnx: No such file or directory" in capsys.readouterr().err
    assert run(["store", "list", "--store", str(tmp_path / "models")]) == 0
    assert run(["store", "show", "tiny", "--store", str(tmp_path / "models")]) == 0
    assert digest_of(ARTIFACT) in capsys.readouterr().out
    assert run(["pull", f"127.0.0.1:{port}", "other", "--out", str(out)]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err
    assert run(["pull", f"127.0.0.1:{port}", "tiny", "--out", str(out), "--tls", str(out / "tiny.json")]) == 2
    assert "tiny.json holds no authority's certificate" in capsys.readouterr().err
    assert run(["pull", "192.0.2.1:1", "tiny", "--out", str(out)]) == 2
    assert run(["pull", f"127.0.0.1:{port}", "tiny", "--out", str(out / "tiny.fcm" / "x")]) == 2
    assert "can't write the folder" in capsys.readouterr().err
    assert run(["serve", "--store", str(tmp_path / "models"), "--listen", "0.0.0.0:0"]) == 2


def test_a_real_link_that_is_cut(port, tmp_path):
    with ModelClient(Address("127.0.0.1", port), timeout=10) as client:
        open_whole, cuts = client.open_download, [100, 200]

        def cut(name, digest, offset=0):
            opened = open_whole(name, digest, offset)
            if not cuts:
                return opened
            chunk = next(iter(opened.chunks))[: cuts.pop()]

            def broken():
                yield chunk
                raise UNAVAILABLE

            return Opened(opened.artifact, opened.num_bytes, broken())

        with contextlib.suppress(AttributeError):
            client.open_download = cut
        assert pulled(client, tmp_path / "out")[0].received_bytes == len(ARTIFACT)
        assert cuts == []
