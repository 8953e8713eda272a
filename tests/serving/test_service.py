"""The service over a loopback port: every call, and every status that it answers with."""

import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fedcomp.address import Address
from fedcomp.deployment.authority import create_authority
from fedcomp.errors import CredentialError, ServingError, UsageError
from fedcomp.serving import CallFailed, ModelClient, ModelServer, ServingLimits, serve, serving_in_thread, serving_pb2
from fedcomp.serving.server import SERVICE
from fedcomp.serving.serving_pb2_grpc import ModelServiceStub
from fedcomp.store import LoadedModel, ModelStore, digest_of, unpack_artifact
from tests.store.tiny import CLASSES, SHAPE, manifest_of, tiny_artifact, tiny_images

LIMITS = ServingLimits(max_images=16, max_request_bytes=1 << 16, workers=1)
ARTIFACT = tiny_artifact()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = ModelStore(str(tmp_path_factory.mktemp("models")))
    store.put(manifest_of(tiny_artifact(1)), tiny_artifact(1))
    store.put(manifest_of(ARTIFACT), ARTIFACT)
    return store


@pytest.fixture(scope="module")
def server(store):
    with serving_in_thread(ModelServer(store, Address("127.0.0.1", 0), LIMITS)) as server:
        yield server


@pytest.fixture
def client(server):
    with ModelClient(Address("127.0.0.1", server.port), timeout=10) as client:
        yield client


def test_models_are_listed(client):
    (model,) = client.list_models()
    assert (model.name, model.artifact, model.num_versions) == ("tiny", digest_of(ARTIFACT), 2)
    assert (tuple(model.image_shape), model.num_classes) == (SHAPE, CLASSES)
    assert client.get_manifest("tiny") == manifest_of(ARTIFACT).to_bytes()
    assert client.get_manifest("tiny", digest_of(tiny_artifact(1))) == manifest_of(tiny_artifact(1)).to_bytes()


def test_predictions_are_the_models(client):
    images = tiny_images(16)
    expected = LoadedModel(unpack_artifact(ARTIFACT)).logits(images)
    found = client.predict("tiny", images)
    np.testing.assert_array_equal(found.logits, expected)
    np.testing.assert_array_equal(found.classes, expected.argmax(axis=1))
    np.testing.assert_allclose(client.predict("tiny", images.astype(np.float32) / 255).logits, expected, rtol=1e-5)
    older = client.predict("tiny", images, digest=digest_of(tiny_artifact(1)))
    assert not np.array_equal(older.logits, expected)


def test_probabilities_add_up(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = serving_pb2.PredictRequest(
            name="tiny", images=tiny_images(3).tobytes(), shape=(3, *SHAPE), pixel_type=1, probabilities=True
        )
        answer = ModelServiceStub(channel).Predict(request, timeout=10)
    probabilities = np.reshape(answer.probabilities, (3, CLASSES))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert list(probabilities.argmax(axis=1)) == list(answer.classes)


def test_a_download_goes_on_from_where_it_broke(client):
    digest = digest_of(ARTIFACT)
    for offset in (0, 1, len(ARTIFACT) - 1, len(ARTIFACT)):
        opened = client.open_download("tiny", digest, offset)
        assert (opened.artifact, opened.num_bytes) == (digest, len(ARTIFACT))
        assert b"".join(opened.chunks) == ARTIFACT[offset:]
    with pytest.raises(CallFailed, match="offset is") as failed:
        client.open_download("tiny", digest, len(ARTIFACT) + 1)
    assert failed.value.code is grpc.StatusCode.OUT_OF_RANGE


def test_who_does_not_read_a_download_gives_its_place_to_others(store, monkeypatch):
    """More is on its way than HTTP/2's windows take, and nobody reads it."""
    digest, much = digest_of(ARTIFACT), bytes(32 << 20)
    monkeypatch.setattr(store, "artifact", lambda _: much)
    with (
        serving(store, max_downloads=1, seconds_per_chunk=1) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as idle,
        ModelClient(Address("127.0.0.1", server.port), timeout=10) as client,
    ):
        held = ModelServiceStub(idle).Download(serving_pb2.DownloadRequest(name="tiny"))
        assert next(held).start.artifact_bytes == len(much)
        opened = client.open_download("tiny", digest)  # waits for the one place
        assert sum(map(len, opened.chunks)) == len(much)
        held.cancel()


@pytest.mark.parametrize(
    ("ask", "code", "what"),
    [
        (lambda c: c.predict("other", tiny_images(1)), "NOT_FOUND", "no model 'other'"),
        (lambda c: c.get_manifest("other"), "NOT_FOUND", "no model 'other'"),
        (lambda c: c.get_manifest("tiny", "0" * 64), "NOT_FOUND", "no version"),
        (lambda c: c.open_download("tiny", "0" * 64), "NOT_FOUND", "no version"),
        (lambda c: c.get_manifest("../tiny"), "INVALID_ARGUMENT", "model is called"),
        (lambda c: c.get_manifest("tiny", "xyz"), "INVALID_ARGUMENT", "digest is"),
        (lambda c: c.predict("tiny", tiny_images(1)[:, :, :7]), "INVALID_ARGUMENT", r"\(1, 1, 7, 8\), expected"),
        (lambda c: c.predict("tiny", tiny_images(0)), "INVALID_ARGUMENT", "1 or more"),
        (lambda c: c.predict("tiny", tiny_images(1)[0]), "INVALID_ARGUMENT", "expected"),
        (lambda c: c.predict("tiny", tiny_images(1).astype(np.int64)), "INVALID_ARGUMENT", "uint8 or float32"),
        (lambda c: c.predict("tiny", np.full((1, *SHAPE), np.nan, np.float32)), "INVALID_ARGUMENT", "NaN"),
        (lambda c: c.predict("tiny", tiny_images(17)), "RESOURCE_EXHAUSTED", "17 images, at most 16"),
        (lambda c: c.predict("tiny", tiny_images(2000)), "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_what_can_not_be_answered_has_a_status_and_a_reason(client, ask, code, what):
    with pytest.raises(CallFailed, match=what) as failed:
        ask(client)
    assert failed.value.code.name == code


def test_images_of_another_length_than_their_shape(server):
    request = serving_pb2.PredictRequest(name="tiny", images=b"x", shape=(1, *SHAPE), pixel_type=2)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as failed:
        ModelServiceStub(channel).Predict(request, timeout=10)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "1 bytes, float32" in failed.value.details()


def test_health_and_reflection(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for name in ("", SERVICE):
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=10)
    assert SERVICE in {service.name for service in answer.list_services_response.service}


def serving(store, **limits):
    return serving_in_thread(ModelServer(store, Address("127.0.0.1", 0), ServingLimits(workers=1, **limits)))


def test_damage_is_data_loss_and_names_go_on(tmp_path):
    store = ModelStore(str(tmp_path))
    for name in ("good", "bad"):
        artifact = tiny_artifact(len(name))
        store.put(manifest_of(artifact, name), artifact)
    digest = digest_of(artifact)
    path = tmp_path / "objects" / digest[:2] / digest
    path.write_bytes(path.read_bytes()[:-1])
    with serving(store) as server, ModelClient(Address("127.0.0.1", server.port), timeout=10) as client:
        for ask in (lambda: client.predict("bad", tiny_images(1)), lambda: client.open_download("bad", digest)):
            with pytest.raises(CallFailed, match="damaged") as failed:
                ask()
            assert failed.value.code is grpc.StatusCode.DATA_LOSS
        client.predict("good", tiny_images(1))
        (tmp_path / "objects" / digest[:2] / digest).write_bytes(artifact)
        client.predict("bad", tiny_images(1))  # a load that failed is tried again


def test_callers_are_not_told_where_the_store_is(tmp_path):
    store = ModelStore(str(tmp_path))
    store.put(manifest_of(ARTIFACT), ARTIFACT)
    path = tmp_path / "objects" / digest_of(ARTIFACT)[:2] / digest_of(ARTIFACT)
    path.unlink()
    with serving(store) as server, ModelClient(Address("127.0.0.1", server.port), timeout=10) as client:
        for asked in [("other", ""), ("tiny", "0" * 64), ("tiny", "")]:
            with pytest.raises(CallFailed) as failed:
                client.open_download(*asked)
            assert failed.value.code is grpc.StatusCode.NOT_FOUND
            assert str(tmp_path) not in str(failed.value)
        path.mkdir()
        with pytest.raises(CallFailed, match="the store can not be read") as failed:
            client.open_download("tiny", "")
        assert failed.value.code is grpc.StatusCode.UNAVAILABLE
        assert str(tmp_path) not in str(failed.value)


def test_a_model_over_the_budget_of_memory(store):
    with serving(store, memory_bytes=1000) as server, ModelClient(Address("127.0.0.1", server.port)) as client:
        with pytest.raises(CallFailed, match="this service has 1000") as failed:
            client.predict("tiny", tiny_images(1))
        assert failed.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_queue_deadline_and_stop(store, monkeypatch):
    """A worker that is held: others wait, are refused, run into their deadline, or are told that this is the end."""
    let_go, begun = threading.Event(), threading.Event()
    really = LoadedModel.logits

    def slowly(self, images):
        begun.set()
        let_go.wait(10)
        return really(self, images)

    monkeypatch.setattr(LoadedModel, "logits", slowly)
    codes = []

    def ask(client, timeout):
        try:
            client.predict("tiny", tiny_images(1), timeout=timeout)
            codes.append("OK")
        except CallFailed as error:
            codes.append(error.code.name)

    with serving(store, max_waiting=2) as server:
        client = ModelClient(Address("127.0.0.1", server.port))
        first = threading.Thread(target=ask, args=(client, 20))
        first.start()
        assert begun.wait(10)
        second = threading.Thread(target=ask, args=(client, 0.3))
        second.start()
        deadline = time.monotonic() + 10
        while server.service._num_waiting < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        ask(client, 20)
        assert codes == ["RESOURCE_EXHAUSTED"]
        second.join()
        assert codes == ["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"]
        threading.Timer(0.3, let_go.set).start()
    first.join()
    assert codes[2:] == ["OK"]  # what had begun was finished
    with client:
        ask(client, 5)
    assert codes[3:] == ["UNAVAILABLE"]


def test_tls(store, tmp_path):
    create_authority(tmp_path / "tls")
    with serving_in_thread(ModelServer(store, Address("127.0.0.1", 0), LIMITS, tmp_path / "tls")) as server:
        address = Address("localhost", server.port)
        with ModelClient(address, tmp_path / "tls" / "ca.crt", timeout=10) as client:
            assert [model.name for model in client.list_models()] == ["tiny"]
        create_authority(tmp_path / "other")
        for authority in (None, tmp_path / "other" / "ca.crt"):
            with ModelClient(address, authority, timeout=5) as client, pytest.raises(CallFailed) as failed:
                client.list_models()
            assert failed.value.code is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(CredentialError), serving_in_thread(ModelServer(store, address, LIMITS, tmp_path)):
        pass


@pytest.mark.parametrize(
    ("num_classes", "num_logits", "num_classes_told"),
    [(0, 8, 2), (0, 0, 2), (4, 7, 2), (4, 4, 2), (4, 8, 1), (1 << 31, 8, 2)],
)
def test_an_answer_that_is_no_prediction_is_refused(client, monkeypatch, num_classes, num_logits, num_classes_told):
    answer = serving_pb2.PredictResponse(
        logits=[0.0] * num_logits, classes=[0] * num_classes_told, num_classes=num_classes
    )
    monkeypatch.setattr(client._stub, "Predict", lambda request, timeout: answer)
    told = f"{num_logits} logits and {num_classes_told} classes of {num_classes} for 2 images"
    with pytest.raises(CallFailed, match=told):
        client.predict("tiny", tiny_images(2))


def test_where_a_service_listens(store, server):
    with pytest.raises(UsageError, match="not on loopback"):
        serve(store, Address("0.0.0.0", 0), LIMITS, tls=None, insecure=False)
    with (
        pytest.raises(ServingError, match="can not be listened to"),
        serving_in_thread(ModelServer(store, Address("127.0.0.1", server.port), LIMITS)),
    ):
        pass
