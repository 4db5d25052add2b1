import json
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tests.integration.processes import until
from tests.unit.adapters.test_upstream_tls import make_certificate
from tests.unit.cli.stand_in import CHAT, ask, stand_in


@pytest.fixture(scope="module")
def upstream() -> Iterator[httpx.Client]:
    with stand_in("--track") as client:
        yield client


def wait_for(client: httpx.Client, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while True:
        stats: dict[str, Any] = client.get("/stats").json()
        if is_so(stats):
            return stats
        assert time.monotonic() < deadline, stats


def test_a_chat_completion_echoes_the_last_user_message(upstream: httpx.Client) -> None:
    asked = {
        "model": 'odd "name"',
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": 'Grüße, "friend" \\ 🌍\n'},
        ],
    }

    answer = ChatCompletion.model_validate(upstream.post(CHAT, json=asked).json(), strict=True)

    assert answer.choices[0].message.content == 'Grüße, "friend" \\ 🌍\n'
    assert answer.model == 'odd "name"'
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_parts_of_a_message_are_echoed_as_text(upstream: httpx.Client) -> None:
    parts = [{"type": "text", "text": "hi"}]

    answer = upstream.post(CHAT, json={"messages": [{"role": "user", "content": parts}]}).json()

    assert "hi" in answer["choices"][0]["message"]["content"]


def test_the_same_text_has_the_same_embedding(upstream: httpx.Client) -> None:
    asked = {"model": "e", "input": ["a", "b", "a"]}

    answer = CreateEmbeddingResponse.model_validate(upstream.post("/v1/embeddings", json=asked).json())

    assert answer.data[0].embedding == answer.data[2].embedding != answer.data[1].embedding
    assert len(answer.data[0].embedding) == 8


def test_the_other_endpoints_answer_in_their_shapes(upstream: httpx.Client) -> None:
    response = Response.model_validate(upstream.post("/v1/responses", json={"input": "hey"}).json())
    moderation = upstream.post("/v1/moderations", json={"input": ["a", "b"]}).json()
    completion = upstream.post("/v1/completions", json={"prompt": "once"}).json()

    assert response.output_text == "hey"
    assert [result["flagged"] for result in moderation["results"]] == [False, False]
    assert completion["choices"][0]["text"] == "once"
    assert upstream.get("/v1/models").json()["data"][0]["object"] == "model"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"messages":3}', b"\xff", b"[" * 100_000])
def test_a_bad_body_is_a_400_in_openais_envelope(upstream: httpx.Client, body: bytes) -> None:
    answer = upstream.post(CHAT, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


def test_an_unknown_url_is_a_404_and_a_wrong_method_a_405(upstream: httpx.Client) -> None:
    assert upstream.post("/v1/nothing").status_code == 404
    assert upstream.get(CHAT).status_code == 405


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
def test_a_message_may_ask_for_a_status(upstream: httpx.Client, status: int) -> None:
    answer = ask(upstream, f"[[fail:{status}]]")

    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert ("retry-after" in answer.headers) is (status in {429, 503})


def test_a_message_may_fail_twice_and_then_work(upstream: httpx.Client) -> None:
    assert [ask(upstream, "twice [[fail:500x2]]").status_code for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize(("later", "header"), [("none", None), ("7", "7"), ("99999999999", "99999999999")])
def test_a_status_may_say_when_to_come_back(upstream: httpx.Client, later: str, header: str | None) -> None:
    assert ask(upstream, f"[[fail:429-{later}]]").headers.get("retry-after") == header


def test_a_status_may_name_the_moment_to_come_back(upstream: httpx.Client) -> None:
    earliest = time.time()

    later = parsedate_to_datetime(ask(upstream, "[[fail:503-date]]").headers["retry-after"]).timestamp()

    assert earliest + 1 <= later <= time.time() + 2


def test_a_good_status_may_come_with_a_body_that_makes_no_sense(upstream: httpx.Client) -> None:
    assert ask(upstream, "[[fail:html]]").text.startswith("<!DOCTYPE html>")
    assert ask(upstream, "[[fail:null]]").text == "null"
    half = ask(upstream, "[[fail:half]]")
    assert half.status_code == 200
    assert half.text.startswith('{"id"')
    assert not half.text.endswith("}")


@pytest.mark.parametrize("kind", ["huge", "flood"])
def test_an_answer_may_be_far_too_large(upstream: httpx.Client, kind: str) -> None:
    body = {"messages": [{"role": "user", "content": f"[[fail:{kind}]]"}]}
    with upstream.stream("POST", CHAT, json=body) as answer:
        size = sum(len(piece) for piece in answer.iter_raw())

    assert 100 * 1024 * 1024 < size < 101 * 1024 * 1024
    assert ("content-length" in answer.headers) is (kind == "huge")


def test_a_request_may_be_pointed_elsewhere(upstream: httpx.Client) -> None:
    answer = ask(upstream, "[[fail:redirect]]")

    assert (answer.status_code, answer.headers["location"]) == (307, "/elsewhere")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("cut", httpx.RemoteProtocolError),
        ("close", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
    ],
)
def test_an_answer_may_be_cut_off_or_never_come(upstream: httpx.Client, kind: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(upstream, f"[[fail:{kind}]]")


@pytest.mark.parametrize("kind", ["hang", "stall"])
def test_a_request_that_hangs_frees_its_slot_when_the_client_leaves(kind: str) -> None:
    body = {"messages": [{"role": "user", "content": f"[[fail:{kind}]]"}]}
    with stand_in("--capacity", "1") as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(CHAT, json=body, timeout=0.1)

        assert ask(client, "next").status_code == 200
        assert wait_for(client, lambda stats: stats["in_flight"] == 0)["answered"] == 1


def test_an_answer_may_drip(upstream: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "[[fail:drip]]"}]}
    request = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
    said = json.dumps(body).encode()
    with socket.create_connection((upstream.base_url.host, upstream.base_url.port or 0), timeout=20) as connection:
        connection.sendall(request % (CHAT.encode(), len(said), said))

        assert [connection.recv(100) for _ in range(4)] == [b"H", b"T", b"T", b"P"]


def test_a_server_that_is_down_drops_all_connections_and_comes_back() -> None:
    with stand_in() as client, ThreadPoolExecutor(1) as pool:
        other = pool.submit(ask, client, "[[fail:hang]]")
        wait_for(client, lambda stats: stats["in_flight"] == 1)

        with pytest.raises(httpx.TransportError):
            ask(client, "[[fail:downx1]]")

        assert isinstance(other.exception(), httpx.TransportError)
        with pytest.raises(httpx.ConnectError):
            ask(client, "refused")
        until(lambda: is_up(client), 20, "it is back")
        assert ask(client, "[[fail:downx1]]").status_code == 200


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/stats").is_success
    except httpx.ConnectError:
        return False


def test_requests_are_counted_by_the_fault_they_ask_for() -> None:
    with stand_in() as client:
        for _ in range(3):
            ask(client, "[[fail:500x2]]")
        ask(client, "[[fail:429-date]]")
        ask(client, "[[sleep:1]]")
        ask(client, "none")

        assert client.get("/stats").json()["by_fault"] == {"500x2": 3, "429-date": 1, "sleep": 1}


def test_no_more_than_the_capacity_is_served_at_once_and_the_rest_waits() -> None:
    with stand_in("--capacity", "3", "--latency-ms", "50") as client, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda number: ask(client, f"line {number}"), range(12)))

        stats = client.get("/stats").json()
        assert {answer.status_code for answer in answers} == {200}
        assert stats["max_in_flight"] == 3
        # The loop's timers count in milliseconds and may be early by one.
        assert stats["busy_s"] >= 12 * 0.048
        # Both count the service, and this the wait before it.
        assert stats["latency_s"] > stats["busy_s"] + 0.05
        assert stats["by_status"] == {"200": 12}


def test_a_server_that_refuses_says_when_to_come_back() -> None:
    with stand_in("--capacity", "1", "--overload", "refuse") as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client, "[[sleep:1000]]")
        wait_for(client, lambda stats: stats["in_flight"] == 1)

        refused = ask(client, "second")

        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert first.result().status_code == 200


def test_bodies_that_come_again_are_counted_until_a_reset() -> None:
    with stand_in("--track") as client:
        for content in ("a", "b", "a", "a"):
            ask(client, content)

        assert client.get("/stats").json()["repeats"] == 2
        client.post("/stats/reset")
        ask(client, "a")
        stats = client.get("/stats").json()
        assert (stats["requests"], stats["answered"], stats["repeats"]) == (1, 1, 0)


def test_requests_sent_together_on_one_connection_are_answered_in_order(upstream: httpx.Client) -> None:
    bodies = [b'{"messages":[{"role":"user","content":"n%d%s"}]}' % (n, b"[[sleep:50]]" * (n == 0)) for n in range(3)]
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"
    with socket.create_connection((upstream.base_url.host, upstream.base_url.port or 0), timeout=20) as connection:
        requests = [
            head % (b"connection: close\r\n" if number == 2 else b"", len(body)) + body
            for number, body in enumerate(bodies)
        ]
        connection.sendall(b"".join(requests))

        received = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.index(b'"n0') < received.index(b'"n1') < received.index(b'"n2')


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command makes the certificate")
def test_it_may_speak_tls(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, "IP:127.0.0.1")
    options = ("--certificate", str(certificate), "--key", str(tmp_path / "key.pem"))
    trust = ssl.create_default_context(cafile=certificate)
    with stand_in(*options) as plain, httpx.Client(base_url=plain.base_url, verify=trust) as client:
        assert client.base_url.scheme == "https"
        assert ask(client, "secret").json()["choices"][0]["message"]["content"] == "secret"
        with pytest.raises(httpx.TransportError):
            ask(client, "[[fail:reset]]")
