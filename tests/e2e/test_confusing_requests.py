"""Requests that are valid HTTP and made to confuse: ids, names, bodies, metadata, lines."""

import json
from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from tests.e2e.deployed import API_KEY, Deployed, await_end, submit
from tests.integration.pipeline import CHAT, request_line

pytestmark = pytest.mark.e2e

HEADERS = {"authorization": f"Bearer {API_KEY}"}
ENVELOPE = {"message", "type", "param", "code"}


@pytest.fixture
def http(deployed: Deployed) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=deployed.base_url, headers=HEADERS, trust_env=False, timeout=60) as http:
        yield http


def error_of(answer: httpx.Response, status: int) -> dict[str, str | None]:
    assert answer.status_code == status, answer.text
    error: dict[str, str | None] = answer.json()["error"]
    assert set(error) == ENVELOPE
    return error


@pytest.mark.parametrize("route", ["/files/{}", "/files/{}/content", "/batches/{}", "/models/{}"])
@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2f..%2fetc%2fpasswd",
        "..%5c..%5cwindows",
        "file-..%2f..%2fwylon.db",
        "file-%00",
        "file-a%0d%0aset-cookie:%20a=b",
        "file-%e2%80%ae%f0%9f%92%a9",
        "file-%ff%fe",
        "file-%ed%a0%80",
        "file-" + "a" * 7_000,
        "%2e%2e",
        "file-%25%32%65",
        "'%20OR%201=1--",
    ],
)
def test_ids_that_are_none_are_not_found(http: httpx.Client, route: str, name: str) -> None:
    answer = http.get(route.format(name))

    error_of(answer, 404)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        *("limit=%00", "limit=9999999999999999999999", "limit=1e3", "limit=%D9%A3", "after=%00", "after=batch_%0d%0a"),
        *("after=%ff", "after=..%2f", "limit=-1", "limit=1&limit=0"),
    ],
)
def test_queries_are_refused_or_find_nothing(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/batches?{query}")

    # Of a parameter that is given twice the first counts.
    assert answer.status_code == 200 if query.startswith("limit=1&") else answer.status_code in {400, 404}


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/", "upload"),
        ("..", ".."),
        ('a%22; filename="b.jsonl', None),
        ("a\0b.jsonl", None),
        ("\u202egpj.exe", "gpj.exe"),
        ("\ufeffa\u200b.jsonl", "a.jsonl"),
        ("naïve 名前 💩.jsonl", "naïve 名前 💩.jsonl"),
        ("x" * 5_000, "x" * 255),
        ("%0d%0aset-cookie: a=b", "%0d%0aset-cookie: a=b"),
        ("a%2Fb", None),
    ],
)
def test_a_filename_is_a_label_and_nothing_else(http: httpx.Client, filename: str, shown: str | None) -> None:
    created = http.post("/files", files={"file": (filename, b"{}\n")}, data={"purpose": "batch"})

    assert created.status_code == 200, created.text
    name = created.json()["filename"]
    if shown is not None:
        assert name == shown
    assert name.isprintable()
    assert "/" not in name
    content = http.get(f"/files/{created.json()['id']}/content")
    assert content.content == b"{}\n"
    assert content.headers["content-disposition"].startswith("attachment")
    assert "set-cookie" not in content.headers


@pytest.mark.parametrize(
    "injected", [b"a\r\nset-cookie: a=b", b"a\nb", b"a\rb", b'a"\r\n\r\nset-cookie: a=b', b"\xff\xfe", b"a\0"]
)
def test_a_filename_with_line_breaks_injects_no_header(http: httpx.Client, injected: bytes) -> None:
    part = b'--cut\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\n{}\r\n' % injected
    purpose = b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    created = http.post(
        "/files", content=purpose + part + b"--cut--\r\n", headers={"content-type": "multipart/form-data; boundary=cut"}
    )

    if created.status_code != 200:
        error_of(created, 400)
        return
    content = http.get(f"/files/{created.json()['id']}/content")
    assert content.status_code == 200
    assert "set-cookie" not in content.headers
    assert created.json()["filename"].isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{}",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        '{"input_file_id": "file-1"}'.encode("utf-16"),
        b'{"input_file_id": "\xed\xa0\x80"}',
        b'{"input_file_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"metadata":' * 50_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"input_file_id": 1' + b"0" * 100_000 + b"}",
        b'{"input_file_id": 1e999999}',
        b'{"input_file_id": NaN}',
        b'{"input_file_id": "file-1", "input_file_id": null}',
        b"{}" + b"\0" * 1_000,
        b'"' + b"a" * 900_000 + b'"',
        b"{" + b" " * 900_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_no_request_is_refused(http: httpx.Client, body: bytes) -> None:
    error_of(http.post("/batches", content=body, headers={"content-type": "application/json"}), 400)


def test_a_body_without_end_is_refused_by_its_size(http: httpx.Client) -> None:
    answer = http.post("/batches", content=b" " * 1_200_000, headers={"content-type": "application/json"})

    assert error_of(answer, 413)["code"] == "request_too_large"


@pytest.mark.parametrize(
    "metadata",
    [
        {f"key{number}": "a" for number in range(17)},
        {"k" * 65: "a"},
        {"a": "v" * 513},
        {"a": "v" * 900_000},
        {"a\0": "b"},
        {"a": "b\0"},
        {"a": "\ud800"},
        {"a": None},
        {"a": ["b"]},
        {"a": {"b": "c"}},
        ["a"],
        "a",
    ],
    ids=lambda metadata: repr(metadata)[:30],
)
def test_metadata_past_its_limits_is_refused(http: httpx.Client, client: OpenAI, metadata: object) -> None:
    file = client.files.create(file=("in.jsonl", request_line("a", "hello")), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", "metadata": metadata}

    answer = http.post("/batches", content=json.dumps(body), headers={"content-type": "application/json"})

    error_of(answer, 400)


def test_the_largest_metadata_comes_back_as_it_was_sent(http: httpx.Client, client: OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", request_line("a", "hello")), purpose="batch")
    metadata = {f"{number:x}" * 64: "💩" * 512 for number in range(16)} | {"0" * 64: "\r\nset-cookie: a=b \u202e"}
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", "metadata": metadata}

    answer = http.post("/batches", json=body)

    assert answer.status_code == 201
    assert http.get(f"/batches/{answer.json()['id']}").json()["metadata"] == metadata


@pytest.mark.parametrize("key", ["a" * 256, "a" * 7_000])
def test_an_idempotency_key_past_its_limit_is_refused(http: httpx.Client, key: str) -> None:
    body = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}

    error_of(http.post("/batches", json=body, headers={"idempotency-key": key}), 400)


def test_custom_ids_made_to_confuse_come_back_as_they_were_sent(client: OpenAI) -> None:
    ids = [
        "../../etc/passwd",
        "a\0b",
        "a\r\nb",
        "\u2028\u2029\x85",
        "\u202e💩",
        '","response":{"',
        "é",
        "e\u0301",
        "x" * 512,
    ]

    batch = await_end(client, submit(client, [request_line(custom_id, "hello") for custom_id in ids]).id)

    assert batch.status == "completed"
    assert batch.output_file_id is not None
    lines = client.files.content(batch.output_file_id).content.decode().splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ids


def test_a_file_made_to_confuse_fails_its_batch_with_a_reason_for_each_line(client: OpenAI) -> None:
    lines = [
        request_line("a", "hello").replace(b"hello", b"\xff"),
        b'{"custom_id":"b","body":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        request_line("c", "hello").replace(b'"model"', b'"model": "a\\u0000b", "x"'),
        b"\0" * 100,
        b"\xef\xbb\xbf" + request_line("d", "hello"),
        b'{"custom_id": 1' + b"0" * 10_000 + b"}",
    ]

    batch = await_end(client, submit(client, lines).id)

    assert batch.status == "failed"
    assert batch.errors is not None
    numbers = [error.line for error in batch.errors.data or []]
    assert set(numbers) >= {1, 2, 4, 5, 6}
