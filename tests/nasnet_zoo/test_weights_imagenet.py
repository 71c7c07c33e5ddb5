"""Fetching the published files: every failure is one clear error, and the cache stays clean."""

import hashlib
import inspect
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import keras
import pytest
from keras.src.applications import nasnet
from weights_helpers import tiny

import nasnet_zoo as zoo
from nasnet_zoo.weights import imagenet

pytestmark = pytest.mark.tensorflow

CONTENT = bytes(range(256)) * 1024


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, or less than it says where the path is /truncated/."""

    requests = 0

    def do_GET(self):
        type(self).requests += 1
        if self.path.startswith("/404/"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // (2 if "truncated" in self.path else 1)])

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model():
    # Fetching looks at names only: no need to fill the weights.
    with keras.StatelessScope(initialize_variables=False):
        return zoo.NASNetMobile()


@pytest.fixture
def cache(tmp_path, monkeypatch, server):
    name, cached, _ = imagenet.FILES["NASNetMobile", True]
    monkeypatch.setitem(
        imagenet.FILES, ("NASNetMobile", True), (name, cached, hashlib.md5(CONTENT).hexdigest())
    )
    monkeypatch.setattr(imagenet, "BASE_URL", f"{server}/files/")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "models"


def test_names_and_checksums_are_those_of_keras_applications():
    source = inspect.getsource(nasnet)
    assert imagenet.BASE_URL == nasnet.BASE_WEIGHTS_PATH
    for published, cached, md5 in imagenet.FILES.values():
        assert f"{{BASE_WEIGHTS_PATH}}{published}" in source
        following = source[source.index(f'"{cached}"') :]
        assert following.index(md5) < following.index("load_weights")


def test_a_file_is_fetched_once(model, cache):
    path = imagenet.fetch_imagenet(model)
    assert path == cache / "nasnet_mobile.h5"
    assert path.read_bytes() == CONTENT
    requests = Handler.requests
    assert imagenet.fetch_imagenet(model) == path
    assert Handler.requests == requests
    assert list(cache.iterdir()) == [path]


def test_a_damaged_file_in_the_cache_is_replaced(model, cache):
    cache.mkdir()
    (cache / "nasnet_mobile.h5").write_bytes(CONTENT[:100])
    assert imagenet.fetch_imagenet(model).read_bytes() == CONTENT


def failure(model):
    with pytest.raises(OSError, match="Expected .* Received: ") as info:
        imagenet.fetch_imagenet(model)
    assert "\n" not in str(info.value)
    assert info.value.__suppress_context__
    return str(info.value)


@pytest.mark.parametrize(
    ("folder", "message"), [("404", "Not Found"), ("truncated", "got only 131072 out of 262144 bytes")]
)
def test_a_server_that_fails(model, cache, server, monkeypatch, folder, message):
    monkeypatch.setattr(imagenet, "BASE_URL", f"{server}/{folder}/")
    assert message in failure(model)
    assert list(cache.iterdir()) == []


def test_a_wrong_checksum(model, cache, monkeypatch):
    name, cached, _ = imagenet.FILES["NASNetMobile", True]
    monkeypatch.setitem(imagenet.FILES, ("NASNetMobile", True), (name, cached, "0" * 32))
    assert f"Expected a file of MD5 sum {'0' * 32}" in failure(model)
    assert list(cache.iterdir()) == []


def test_no_network(model, cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(imagenet, "BASE_URL", f"http://127.0.0.1:{port}/")
    assert "Connection refused" in failure(model)
    assert list(cache.iterdir()) == []


def test_a_disk_that_takes_no_more(model, cache):
    """The system's limit on the size of files stops the download as a full disk does, for root too."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        message = failure(model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Expected room for" in message
    assert "File too large" in message
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made(model, cache, monkeypatch):
    (cache.parent / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(cache.parent / "file"))
    assert "Not a directory" in failure(model)


def test_other_models_have_no_published_weights():
    with pytest.raises(ValueError, match="Expected NASNetMobile or NASNetLarge"):
        tiny(weights="imagenet")


@pytest.mark.parametrize(("name", "classes"), [("NASNetMobile", 1000), ("NASNetLarge", 7)])
def test_models_are_known_by_their_cells(name, classes):
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(zoo, name)(classes=classes, pool_padding="keras", name="mine")
    assert imagenet.published_model(model) == name
