"""Callers that mean harm: slow ones, idle ones, many, and those that speak no HTTP."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from openai import OpenAI

from bench.drips import KINDS, dripping
from tests.e2e.deployed import API_KEY, Deployed
from tests.integration.processes import until

pytestmark = pytest.mark.e2e

HEADERS = {"authorization": f"Bearer {API_KEY}"}
ENVELOPE = {"message", "type", "param", "code"}
# What a caller waits at most while others attack, on a busy machine with two cores.
ANSWERED_WITHIN_S = 15.0
WANTED_FILES = 4_096
_HEAD = f"host: test\r\nauthorization: Bearer {API_KEY}\r\n".encode()
_FORM = b"content-type: multipart/form-data; boundary=cut\r\n"
SLOW_HEAD = b"GET /v1/batches HTTP/1.1\r\nx-slow: "
SLOW_UPLOAD = (
    b"POST /v1/files HTTP/1.1\r\n" + _HEAD + _FORM + b"content-length: 50000\r\n\r\n"
    b'--cut\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
)
SLOW_JSON = (
    b"POST /v1/batches HTTP/1.1\r\n" + _HEAD + b"content-type: application/json\r\ncontent-length: 50000\r\n\r\n{"
)
SLOW_STRANGER = SLOW_UPLOAD.replace(API_KEY.encode(), b"wrong")
NO_HTTP = b"NONSENSE\r\n\r\n"


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(deployed: Deployed) -> socket.socket:
    address = urlsplit(deployed.base_url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


@contextmanager
def crowd(deployed: Deployed, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say this, and then neither go on nor go away."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(stack.enter_context(connect(deployed)))
            connections[-1].sendall(said)
        yield connections


def drip(connections: list[socket.socket]) -> None:
    for connection in connections:
        try:
            connection.send(b"a", socket.MSG_DONTWAIT)
        except OSError:
            # It was refused by now.
            continue


def assert_answers(deployed: Deployed) -> None:
    """Fail where a new caller is not served soon."""
    began_at = time.monotonic()
    with httpx.Client(headers=HEADERS, trust_env=False, timeout=ANSWERED_WITHIN_S) as http:
        assert http.get(f"{deployed.base_url}/batches").status_code == 200
        assert http.post(f"{deployed.base_url}/batches", json={}).status_code == 400
    assert time.monotonic() - began_at < ANSWERED_WITHIN_S


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """Return status and body of what comes until the server closes."""
    connection.settimeout(60)
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def ask(deployed: Deployed, data: bytes) -> tuple[int, bytes]:
    with connect(deployed) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return answer_of(connection)


@pytest.mark.parametrize("count", [1_000, 1_500])
def test_a_thousand_idle_connections_leave_the_api_answering(deployed: Deployed, count: int) -> None:
    with crowd(deployed, count):
        for _ in range(5):
            assert_answers(deployed)


@pytest.mark.parametrize(
    "said",
    [SLOW_HEAD, SLOW_UPLOAD, SLOW_JSON, SLOW_STRANGER, NO_HTTP],
    ids=["heads", "uploads", "bodies", "uploads without a key", "no HTTP and no end"],
)
def test_hundreds_that_drip_leave_the_api_answering(deployed: Deployed, said: bytes) -> None:
    pids = deployed.pids()

    with crowd(deployed, 300, said) as connections:
        for _ in range(5):
            drip(connections)
            assert_answers(deployed)

    assert deployed.pids()["web"] == pids["web"]


@pytest.mark.parametrize("kind", [*KINDS])
def test_hundreds_that_send_or_read_a_byte_each_50_ms_hold_up_nobody(
    deployed: Deployed, client: OpenAI, kind: str
) -> None:
    file = client.files.create(file=("big.bin", bytes(5_000_000)), purpose="assistants")
    address = deployed.base_url.removesuffix("/v1")

    with (
        dripping(address, API_KEY, kind, 300, f"/v1/files/{file.id}/content"),
        httpx.Client(base_url=address, headers=HEADERS, trust_env=False, timeout=ANSWERED_WITHIN_S / 3) as http,
    ):
        for _ in range(10):
            assert http.get("/healthz").status_code == 200
            assert http.get("/readyz").status_code == 200
            assert http.post("/v1/batches", json={}).status_code == 400

    client.files.delete(file.id)


def test_a_body_that_drips_is_told_so_in_the_end_and_leaves_nothing(deployed: Deployed, client: OpenAI) -> None:
    deployed.await_rest(client)
    blobs = deployed.blobs()
    with connect(deployed) as connection:
        connection.sendall(SLOW_UPLOAD + b"{")

        status, body = answer_of(connection)

    error = json.loads(body)["error"]
    assert (status, error["code"]) == (408, "request_timeout")
    assert set(error) == ENVELOPE
    until(lambda: deployed.blobs() <= blobs, 60, "what was written is gone")


def test_a_head_that_drips_or_has_no_end_is_refused(deployed: Deployed) -> None:
    with connect(deployed) as slow, connect(deployed) as long:
        slow.sendall(SLOW_HEAD)
        long.sendall(b"GET / HTTP/1.1\r\nx: " + b"x" * 70_000)

        assert answer_of(long)[0] == 431
        assert answer_of(slow)[0] == 408


def test_callers_that_never_read_leave_the_api_answering(deployed: Deployed, client: OpenAI) -> None:
    file = client.files.create(file=("big.bin", bytes(30_000_000)), purpose="assistants")
    asked = f"GET /v1/files/{file.id}/content HTTP/1.1\r\n".encode() + _HEAD + b"\r\n"

    with crowd(deployed, 100, asked):
        for _ in range(3):
            assert_answers(deployed)

    client.files.delete(file.id)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/batches HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        b"GET /v1/batches HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n",
        b"GET /v1/batches HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /v1/batches HTTP/9.9\r\nhost: a\r\n\r\n",
        b"GET /v1/batches\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        b"POST /v1/batches HTTP/1.1\r\n" + _HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/files HTTP/1.1\r\n" + _HEAD + _FORM + b"transfer-encoding: chunked\r\n\r\n-5\r\n",
    ],
)
def test_what_is_no_valid_http_is_refused(deployed: Deployed, head: bytes) -> None:
    status, body = ask(deployed, head)

    assert 400 <= status < 500
    assert set(json.loads(body)["error"]) == ENVELOPE


def test_a_caller_who_asks_before_it_sends_its_body_is_told_to_go_on(deployed: Deployed) -> None:
    head = SLOW_JSON.partition(b"content-length")[0]
    with connect(deployed) as connection:
        connection.sendall(head + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 Continue\r\n")

        connection.sendall(b"{}")

        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")
