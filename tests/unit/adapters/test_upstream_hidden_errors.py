"""Errors in answers with a good status."""

import pytest

from app.adapters.upstream.hidden_errors import status_within
from app.domain.batch import Usage
from app.domain.retry import Trouble
from tests.unit.adapters.upstream_server import answer, call, once


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"error":{"message":"no","code":429}}', 429),
        (b'{"error":{"message":"no","code":"503"}}', 503),
        (b'{"error":{"message":"no","status":500}}', 500),
        (b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', 429),
        (b'{"error":{"message":"no","type":"insufficient_quota","code":null}}', 429),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', 503),
        (b'{"error":{"type":"server_error","message":"The server had an error"}}', 500),
        (b'{"error":{"type":"internal_error","code":1.5}}', 500),
        (b'{"error":"Model is overloaded","error_type":"overloaded"}', 503),
        (b'{"error":"overloaded"}', 503),
        (b'{"object":"error","message":"no","type":"InternalServerError"}', 500),
        (b'{"error":true,"code":502}', 502),
        (b'{"error":{"code":"gateway_timeout"}}', 504),
        (b'{"error":{"type":"authentication_error"}}', 401),
        (b'{"error":{"message":"overloaded in words alone"}}', 400),
        (b'{"error":{"code":"context_length_exceeded"}}', 400),
        (b'{"error":{"code":200}}', 400),
        (b'{"error":{"code":99999999999999999999999}}', 400),
        (b'{"error":"no such model"}', 400),
        (b'{"error":{"message":"\\ud800"}}', 400),
        (b'{"id":"r","status":"failed","error":{"code":"server_error"},"output":[]}', 500),
        (b'{"choices":[ ],"error":{"code":504}}', 504),
        (b'{"choices":null,"data":{},"error":{"code":500}}', 500),
        (b'{"error":500}', 500),
        (b'{"error":429,"message":"slow down"}', 429),
        (b'{"error":["a","b"]}', 400),
        (b'{"error":["overloaded","b"]}', 503),
        (b'{"error":[{"code":502}],"a":1}', 502),
        (b'{"error":[1.5,[2]],"a":1}', 400),
        (b'{"errors":[{"code":7009,"message":"no"}],"success":false,"result":null,"messages":[]}', 400),
        (b'{"errors":[{"code":"server_error"}],"data":null}', 500),
        (b'{"type":"error","code":503}', 503),
        (b'{"status":"error","message":"no"}', 400),
    ],
)
def test_an_error_without_a_result_is_the_error_that_its_code_says(body, status):
    assert status_within(body) == status


@pytest.mark.parametrize("error", [b"{}", b"{ }", b"[]", b'""'])
def test_an_answer_of_an_empty_error_alone_is_an_error(error):
    assert status_within(b'{"error": ' + error + b"}") == 400
    assert status_within(b'{"error": ' + error + b',"id":"r"}') is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'[{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}]', 400),
        (b'\n[ {"error":{"code":503,"status":"UNAVAILABLE"}} , {"error":"b"}]', 503),
        (b'[{"error":{"code":500}},{"embedding":[1]}]', None),
        (b'[{"error":{"code":500}},[0.5]]', None),
        (b'[{"label":"error","score":0.5}]', None),
    ],
)
def test_a_list_of_nothing_but_errors_is_the_first_error(body, status):
    assert status_within(body) == status


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"text":"a"}]}',
        b'{"error":null,"output":[{"type":"message"}]}',
        b'{"error":null,"a":1}',
        b'{"error":{},"a":1}',
        b'{"error":"","a":1}',
        b'{"error":false,"a":1}',
        b'{"error":0.5,"a":1}',
        b'{"error":[],"a":1}',
        b'{"error":{"code":500},"choices":[{"text":"a"}]}',
        b'{"error":{"code":500},"data":[{"embedding":[1]}]}',
        b'{"error":"a warning","results":[{"index":0}]}',
        b'{"choices":[{"error":{"code":500}}]}',
        b'{"a":{"error":{"code":500}}}',
        b'{"text":"say \\"error\\": {}"}',
        b'{"error":null}',
        b'{"error":false}',
        b'{"error":0}',
        b'{"error":0.5}',
        b'{"error":12}',
        b'{"error":' + b"5" * 5_000 + b"}",
        b'{"errors":[],"success":true,"result":{"response":"a"}}',
        b'{"errors":[{"code":1}],"success":true,"result":{"response":"a"}}',
        b'{"errors":2,"passed":3}',
        b'{"id":"c","object":"chat.completion","error":null,"choices":[{"message":{"content":"error"}}]}',
        b'{"id":"r","object":"response","status":"completed","error":null,"output":[{"type":"message"}]}',
        b'{"id":"m","model":"error","results":[{"flagged":false,"categories":{"error":true}}]}',
    ],
)
def test_an_answer_with_a_result_or_without_an_error_is_an_answer(body):
    assert status_within(body) is None


def test_an_error_in_a_good_answer_is_kept_as_it_came_and_sorted():
    body = b'{ "error" : {"code": 429}, "usage":{"prompt_tokens":3}}'

    said = call(once(answer(body, "retry-after: 7", "x-request-id: r")))

    assert (said.trouble, said.status, said.request_id, said.body) == (Trouble.AWAY, 200, "r", body)
    assert (said.usage, said.retry_after_s, said.error) == (Usage(), 7.0, None)


def test_an_error_that_the_line_would_get_again_is_final():
    said = call(once(answer(b'{"error":{"code":"context_length_exceeded"}}', "retry-after: 7")))

    assert (said.trouble, said.retry_after_s) == (Trouble.FINAL, None)
