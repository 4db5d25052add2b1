"""What a caller writes into a request never reaches a log, and so a terminal, as it came."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.deployed import API_KEY, Deployed
from tests.integration.processes import until

pytestmark = pytest.mark.e2e

# An escape of the terminal, a bell, a return, the C1 form of an escape, a mark that turns the direction of writing.
HOSTILE = "\x1b[31m\x07\r\x9b2J\u202e"
QUOTED = "%1b%5b31m%07%0d%0alevel=faked%c2%9b2J%e2%80%ae"


def say(deployed: Deployed, request: bytes) -> bytes:
    address = urlsplit(deployed.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while piece := connection.recv(65_536):
            said += piece
        return said


def logs(deployed: Deployed) -> str:
    paths = [*(deployed.data / "log").glob("*"), *deployed.folder.glob("*.log")]
    return "".join(path.read_bytes().decode("utf-8", "surrogateescape") for path in paths)


def test_control_characters_of_a_request_never_reach_a_log_as_they_are(deployed: Deployed) -> None:
    raw = HOSTILE.encode()
    key = f"authorization: Bearer {API_KEY}\r\n".encode()
    for request in (
        f"GET /marked-{QUOTED} HTTP/1.1\r\nhost: a\r\n\r\n".encode(),
        b"GET /" + raw + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        raw + b" / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/" + raw + b"\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + raw + b": b\r\n\r\n",
        b"GET /v1/files HTTP/1.1\r\nhost: a\r\nx-request-id: " + raw + b"\r\n" + key + b"\r\n",
        b"GET /v1/files?after=" + raw + b" HTTP/1.1\r\nhost: a\r\n" + key + b"\r\n",
        b"GET /v1/files HTTP/1.1\r\nhost: a\r\nexpect: " + raw + b"\r\n" + key + b"\r\n",
        b"GET /v1/files HTTP/1.1\r\nhost: a\r\ntransfer-encoding: " + raw + b"\r\n" + key + b"\r\n",
        b"POST /v1/batches HTTP/1.1\r\nhost: a\r\ncontent-type: "
        + raw
        + b"\r\ncontent-length: 2\r\n"
        + key
        + b"\r\n{}",
    ):
        say(deployed, request)
    with httpx.Client(
        base_url=deployed.base_url, headers={"authorization": f"Bearer {API_KEY}"}, trust_env=False
    ) as http:
        http.post("/files", files={"file": (HOSTILE, b"{}")}, data={"purpose": "batch"})
        http.post("/batches", json={"input_file_id": HOSTILE, "endpoint": HOSTILE, "completion_window": HOSTILE})
        http.get(f"/models/{QUOTED}")

    until(lambda: "marked-" in logs(deployed), 20, "the requests are in the log")
    said = logs(deployed)
    assert not {char for char in said if not char.isprintable()} - {"\n"}
    assert "\\x1b[31m" in said
    assert not [line for line in said.split("\n") if line.startswith("level=faked")]
