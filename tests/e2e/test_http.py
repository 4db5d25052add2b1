"""What a client library does not show: ranges, broken connections, the command line."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from openai import OpenAI

from tests.e2e.deployed import API_KEY, Deployed, await_end, submit
from tests.integration.pipeline import custom_ids, request_lines
from tests.integration.processes import WYLON, environ_of, until

pytestmark = pytest.mark.e2e

HEADERS = {"authorization": f"Bearer {API_KEY}"}


def test_a_download_that_broke_off_is_taken_up_by_a_range(deployed: Deployed, client: OpenAI) -> None:
    batch = await_end(client, submit(client, request_lines(20)).id)
    url = f"{deployed.base_url}/files/{batch.output_file_id}/content"
    with httpx.Client(headers=HEADERS, trust_env=False) as http:
        whole = http.get(url)

        rest = http.get(url, headers={"range": "bytes=100-"})
        part = http.get(url, headers={"range": "bytes=10-19"})
        beyond = http.get(url, headers={"range": f"bytes={len(whole.content)}-"})

    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert rest.headers["content-range"] == f"bytes 100-{len(whole.content) - 1}/{len(whole.content)}"
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert beyond.status_code == 416
    assert f"{batch.id}_output.jsonl" in whole.headers["content-disposition"]


def gathered(deployed: Deployed) -> set[str]:
    """Return the nameless files in which the web process keeps bodies until they are whole."""
    web = psutil.Process(deployed.pids()["web"])
    links = [link for one in (web, *web.children()) for link in Path(f"/proc/{one.pid}/fd").iterdir()]
    found = set()
    for link in links:
        with suppress(FileNotFoundError):
            found.add(os.readlink(link))
    return {path for path in found if path.startswith(str(deployed.data / "run")) and path.endswith(" (deleted)")}


def test_an_upload_cut_off_midway_leaves_no_file(deployed: Deployed, client: OpenAI) -> None:
    deployed.await_rest(client)
    files, blobs = [file.id for file in client.files.list()], deployed.blobs()
    address = urlsplit(deployed.base_url)
    opening = (
        b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--cut\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
    )
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {API_KEY}\r\n"
        "content-type: multipart/form-data; boundary=cut\r\ncontent-length: 50000000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode() + opening + b'{"custom_id": "a"}\n' * 100_000)
        until(lambda: gathered(deployed), 60, "the upload is being gathered")

    until(lambda: not gathered(deployed), 60, "what was gathered is gone")
    assert [file.id for file in client.files.list()] == files
    assert deployed.blobs() <= blobs


@pytest.mark.parametrize("has_length", [True, False], ids=["with a length", "in chunks"])
@pytest.mark.parametrize(
    ("path", "key", "size", "status"),
    [
        ("/batches", API_KEY, 3_000_000, 413),
        ("/files", "wrong", 30_000_000, 401),
        ("/nowhere", API_KEY, 3_000_000, 404),
        ("/files", API_KEY, 3_000_000, 400),
        ("/batches", API_KEY, 900_000, 400),
    ],
)
def test_a_refused_body_is_answered_and_the_next_requests_of_the_client_work(
    deployed: Deployed, path: str, key: str, size: int, status: int, has_length: bool
) -> None:
    def pieces() -> Iterator[bytes]:
        for at in range(0, size, 65_536):
            yield b"x" * min(65_536, size - at)

    # One connection at a time: each request may find the one that its predecessor left.
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(base_url=deployed.base_url, headers=HEADERS, trust_env=False, timeout=60, limits=limits) as http:
        for _ in range(10):
            refused = http.post(
                path,
                content=b"x" * size if has_length else pieces(),
                headers={"content-type": "application/json", "authorization": f"Bearer {key}"},
            )
            assert refused.status_code == status
            assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
            assert http.get("/batches").status_code == 200


def test_fifty_creates_at_once_with_one_key_answer_with_one_batch(deployed: Deployed, client: OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", b"\n".join(request_lines(1))), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    headers = HEADERS | {"idempotency-key": f"fifty-{file.id}"}

    def create(_number: int) -> tuple[int, str]:
        answer = httpx.post(f"{deployed.base_url}/batches", json=asked, headers=headers, timeout=60, trust_env=False)
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(50) as pool:
        answers = set(pool.map(create, range(50)))

    assert len(answers) == 1
    assert next(iter(answers))[0] == 201


@pytest.mark.parametrize(("key", "status"), [("wrong", 401), (API_KEY, 413)])
def test_a_caller_who_waits_for_a_go_on_is_refused_before_it_sends_its_body(
    deployed: Deployed, key: str, status: int
) -> None:
    address = urlsplit(deployed.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(
            f"POST /v1/batches HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\nexpect: 100-continue\r\n"
            "content-type: application/json\r\ncontent-length: 2000000\r\n\r\n".encode()
        )
        said = b""
        while piece := connection.recv(65_536):
            said += piece

    head = said.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(f"http/1.1 {status} ".encode())
    assert b"connection: close" in head


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(deployed: Deployed, client: OpenAI) -> None:
    deployed.await_rest(client)
    files, blobs = [file.id for file in client.files.list()], deployed.blobs()
    mebibyte = b" " * (1024 * 1024 - 1) + b"\n"

    def form() -> Iterator[bytes]:
        yield b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--cut\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
        for _ in range(201):
            yield mebibyte
        yield b"\r\n--cut--\r\n"

    with httpx.Client(headers=HEADERS, trust_env=False, timeout=60) as http:
        answer = http.post(
            f"{deployed.base_url}/files", content=form(), headers={"content-type": "multipart/form-data; boundary=cut"}
        )

    assert answer.status_code == 413
    assert "200 MiB" in answer.json()["error"]["message"]
    # Blobs of earlier tests may go meanwhile.
    until(lambda: deployed.blobs() <= blobs, 60, "the refused file's blobs are gone")
    assert [file.id for file in client.files.list()] == files


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/batches", b"{broken", 400),
        ("POST", "/batches", b"[]", 400),
        ("POST", "/batches", b'{"input_file_id": 1}', 400),
        ("POST", "/batches", b"", 400),
        ("POST", "/files", b"no form", 400),
        ("GET", "/batches?limit=0", None, 400),
        ("GET", "/batches?after=batch_unknown", None, 404),
        ("GET", "/batches/..%2f..%2fetc", None, 404),
        ("GET", "/files/file-%00/content", None, 404),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/batches", None, 405),
    ],
)
def test_bad_requests_get_the_envelope(
    deployed: Deployed, method: str, path: str, content: bytes | None, status: int
) -> None:
    with httpx.Client(headers=HEADERS, trust_env=False) as http:
        answer = http.request(method, f"{deployed.base_url}{path}", content=content)

    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_health_needs_no_key(deployed: Deployed) -> None:
    root = deployed.base_url.removesuffix("/v1")
    with httpx.Client(trust_env=False) as http:
        answers = [http.get(f"{root}{path}") for path in ("/healthz", "/readyz", "/openapi.json")]

    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_the_command_line_submits_waits_and_fetches(deployed: Deployed, tmp_path: Path) -> None:
    source, output, errors = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "errors.jsonl"))
    source.write_bytes(b"\n".join([*request_lines(10), *request_lines(1, "[[fail:400]]")]).replace(b"id-0", b"bad", 1))

    done = subprocess.run(
        [WYLON, "submit", source, "--wait", "-o", output, "--errors", errors, "--base-url", deployed.base_url],
        env=environ_of({"API_KEY": API_KEY}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("batch_")
    found = custom_ids(json.loads(line) for line in output.read_text().splitlines())
    assert found == ["bad", *(f"id-{number}" for number in range(1, 10))]
    assert custom_ids(json.loads(line) for line in errors.read_text().splitlines()) == ["id-0"]


def test_a_batch_without_a_successful_line_ends_the_command_with_1_and_the_most_frequent_error(
    deployed: Deployed, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(request_lines(3, "[[fail:400]]")))

    done = subprocess.run(
        [WYLON, "submit", source, "--wait", "--base-url", deployed.base_url],
        env=environ_of({"API_KEY": API_KEY}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert "All 3 lines failed; the most frequent error, 3 times:" in done.stderr
    assert "HTTP 400: " in done.stderr
