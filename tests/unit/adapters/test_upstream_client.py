import json

import pytest

from app.domain.batch import Usage
from app.domain.line import read_request
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.upstream_server import (
    Conversation,
    always,
    answer,
    call,
    call_at,
    on_uvloop,
    once,
    serving,
)

GOOD = b'{"id":"c","usage":{"prompt_tokens":3,"completion_tokens":4}}'


def test_a_good_answer_comes_back_as_it_came_with_its_usage_and_its_request_id():
    said = call(once(answer(GOOD, "x-request-id: req-7")))

    assert said == Answer(Trouble.NONE, 200, "req-7", GOOD, Usage(3, 0, 4, 0))


def test_an_answer_without_a_request_id_gets_one():
    assert call(once(answer(GOOD))).request_id.startswith("req_")


def test_a_request_id_that_is_no_text_can_still_be_written_to_a_file():
    request_id = call(once(answer(GOOD, "x-request-id: caf\xe9" + "x" * 1000))).request_id

    assert len(request_id.encode()) < 300


def test_the_body_is_sent_as_it_came_with_the_key_and_no_needless_header():
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_request())
        await conversation.say(answer(GOOD))

    call(handle, body=b'{ "a":1}', api_key="Secret")

    (head, body), *_ = seen
    assert body == b'{ "a":1}'
    request, *headers = head.decode().strip().split("\r\n")
    assert request == "post /v1/chat/completions http/1.1"
    assert {header.partition(":")[0] for header in headers} == {
        "host",
        "content-type",
        "user-agent",
        "authorization",
        "content-length",
    }
    assert "content-type: application/json" in headers
    assert any(header.startswith("host: 127.0.0.1:") for header in headers)
    assert "authorization: bearer secret" in headers


def test_the_body_of_a_decoded_line_is_sent():
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_request())
        await conversation.say(answer(GOOD))

    line = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model": "m"}}'
    said = call(handle, body=read_request(line).body)

    assert said.trouble is Trouble.NONE
    assert seen[0][1] == b'{"model": "m"}'


def test_a_body_of_many_megabytes_is_sent_whole():
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_request())
        await conversation.say(answer(GOOD))

    said = call(handle, body=b'"' + b"x" * 5_000_000 + b'"')

    assert said.trouble is Trouble.NONE
    assert len(seen[0][1]) == 5_000_002


def test_a_connection_serves_many_calls():
    opened = []

    async def handle(conversation: Conversation) -> None:
        opened.append(conversation)
        await always(answer(GOOD))(conversation)

    assert call(handle, times=3).trouble is Trouble.NONE
    assert len(opened) == 1


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/openai/deployments/x"])
def test_the_base_url_stands_in_the_place_of_v1(base):
    seen = []

    async def handle(conversation: Conversation) -> None:
        head, _ = await conversation.read_request()
        seen.append(head.split()[1].decode())
        await conversation.say(answer(GOOD))

    async def run() -> None:
        async with serving(handle) as url:
            await call_at(url.removesuffix("/v1") + base)

    on_uvloop(run())

    assert seen == [f"{base.rstrip('/')}/chat/completions"]


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ("400 Bad Request", Trouble.FINAL),
        ("408 Request Timeout", Trouble.FLAKY),
        ("429 Too Many Requests", Trouble.AWAY),
        ("500 Internal Server Error", Trouble.FLAKY),
        ("503 Service Unavailable", Trouble.AWAY),
    ],
)
def test_an_error_in_json_is_kept_as_it_came(status, trouble):
    body = b'{"error":{"message":"no"},"usage":{"prompt_tokens":9}}'

    said = call(once(answer(body, "x-request-id: r", status=status)))

    assert said == Answer(trouble, int(status[:3]), "r", body)


@pytest.mark.parametrize(("header", "wait_s"), [("7", 7.0), ("-1", None), ("soon", None), ("1e9", None)])
def test_a_throttled_call_says_how_long_to_wait_where_that_makes_sense(header, wait_s):
    said = call(once(answer(b"{}", f"Retry-After: {header}", status="429 Too Many Requests")))

    assert (said.trouble, said.retry_after_s) == (Trouble.AWAY, wait_s)


def test_a_final_error_asks_for_no_wait():
    assert call(once(answer(b"{}", "Retry-After: 7", status="400 Bad Request"))).retry_after_s is None


def test_an_error_that_is_not_json_is_wrapped():
    page = b"<html>" + "é".encode() * 5_000

    said = call(once(answer(page, "content-type: text/html", status="502 Bad Gateway")))

    assert said.trouble is Trouble.AWAY
    error = json.loads(said.body)["error"]
    assert error == {"message": "<html>" + "é" * 1994, "type": "upstream_error", "param": None, "code": None}


def test_an_error_larger_than_the_limit_is_recorded_by_its_start():
    said = call(once(answer(b"y" * 50_000, status="503 Service Unavailable")), max_answer_bytes=10_000)

    assert (said.trouble, said.status) == (Trouble.AWAY, 503)
    assert json.loads(said.body)["error"]["message"] == "y" * 2_000


def test_a_redirect_is_recorded_and_not_followed():
    said = call(once(answer(b"", "location: http://127.0.0.1:9/elsewhere", status="307 Temporary Redirect")))

    assert (said.trouble, said.status) == (Trouble.FINAL, 307)
    assert "http://127.0.0.1:9/elsewhere" in json.loads(said.body)["error"]["message"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b" {} \n", b"\n[1]", '{"a":"é"}'.encode()])
def test_any_json_object_or_list_is_an_answer(body):
    said = call(once(answer(body)))

    assert (said.trouble, said.body) == (Trouble.NONE, body)


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":"\ud800"}',
        rb'{"a":"\udc00\ud800 \uD83D\uDE00"}',
        rb'{"\udfff":[1e999,-0.0,"\\\ud800"]}',
        rb'{"a":1,"a":2}',
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_valid_json_comes_back_byte_for_byte(body):
    said = call(once(answer(body)))

    assert (said.trouble, said.body) == (Trouble.NONE, body)


def test_a_surrogate_without_its_pair_leaves_the_usage():
    body = rb'{"choices":[{"text":"\ud83d"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"note":"\ud83d"}}'

    assert call(once(answer(body))).usage == Usage(3, 0, 4, 0)


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
def test_an_error_with_a_surrogate_without_its_pair_is_kept_as_it_came(status):
    body = rb'{"error":{"message":"\ud83d is no text"}}'

    assert call(once(answer(body, status=status))).body == body


@pytest.mark.parametrize("body", [rb'{"a":"\ud80"}', rb'{"a":\ud800}', rb'["\ud800"', rb'{"a":"\\ud800}'])
def test_a_surrogate_hides_no_other_fault(body):
    assert call(once(answer(body))).error[0] == "invalid_response"


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_an_answer_in_any_encoding_of_json_is_kept_in_utf_8(encoding, status):
    text = '{"a":"é😀","usage":null}'

    assert call(once(answer(text.encode(encoding), status=status))).body == text.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}{}",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b'{"a":"\xff"}',
        b'{"usage":{},"a":"\xed\xa0\x80"}',
        b"{\0}\0\0",
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=["empty", "cut", "two", "nan", "infinity", "-infinity", "no utf-8", "surrogate", "no utf-16", "deep"],
)
def test_a_good_status_with_a_body_that_is_not_json_is_flaky(body):
    said = call(once(answer(body)))

    assert (said.trouble, said.status, said.error[0]) == (Trouble.FLAKY, 0, "invalid_response")


@pytest.mark.parametrize("body", [b"null", b" null\n", b"true", b"7", b'"text"'])
def test_a_good_status_with_json_that_holds_nothing_is_flaky(body):
    said = call(once(answer(body)))

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "invalid_response")
    assert said.error[1].endswith(body.decode().replace("\n", " "))


def test_an_error_that_is_json_without_an_object_is_wrapped():
    said = call(once(answer(b"null", status="500 Internal Server Error")))

    assert json.loads(said.body)["error"]["message"] == "null"


def test_the_error_for_what_is_not_json_shows_what_it_was():
    said = call(once(answer(b"<html>\n\x00" + b"x" * 1_000, "content-type: text/html; charset=utf-8")))

    message = said.error[1]
    assert "text/html; charset=utf-8" in message
    assert "<html>  xxx" in message
    assert message.count("x") < 250
    assert message.isprintable()


@pytest.mark.parametrize(
    "said",
    [
        answer(b'{"id":', length=100),
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n{"id":\r\n',
        answer(b"no gzip at all", "content-encoding: gzip"),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ],
    ids=["content-length", "chunked", "broken gzip", "no http"],
)
def test_an_answer_that_is_cut_off_or_garbled_is_flaky(said):
    result = call(once(said))

    assert (result.trouble, result.error[0]) == (Trouble.FLAKY, "invalid_response")
