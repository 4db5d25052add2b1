import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.batch import Usage
from app.domain.ids import line_request_id
from app.domain.lifecycle import Status
from app.domain.result import (
    BATCH_CANCELLED,
    BATCH_EXPIRED,
    NO_USAGE,
    Met,
    answered,
    never_ran,
    one_line,
    read_usage,
    unanswered,
)

BREAKS = "\x85\u2028\u2029"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.text(alphabet=BREAKS + '"\\\n\r'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def assert_is_one_line(text: bytes) -> None:
    assert len(text.splitlines()) == 1
    assert len(text.decode().splitlines()) == 1


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_any_json_becomes_one_line_of_the_same_value(value: object, indent: int | None, is_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()

    line = one_line(text)

    assert json.loads(line) == value
    assert_is_one_line(line)


def test_plain_text_is_left_as_it_is() -> None:
    text = b'{"a": [1, 2]}'

    assert one_line(text) is text


@pytest.mark.parametrize("custom_id", ["a", 'with "quotes"', "名前", BREAKS, "line\nbreak"])
@pytest.mark.parametrize("body", [b'{"a":1}', b'{\n  "a": 1\r\n}\n', '{"a":"\u2028"}'.encode(), b" [1] ", b"1e999"])
def test_an_answer_is_embedded_in_one_line(custom_id: str, body: bytes) -> None:
    line = answered("batch_1", 7, custom_id, 200, "req_1", body)

    assert_is_one_line(line)
    assert json.loads(line) == {
        "id": line_request_id("batch_1", 7),
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": "req_1", "body": json.loads(body)},
        "error": None,
    }


def test_digits_of_an_answer_are_not_touched() -> None:
    assert b'"body":{"p":0.10000000000000000001}' in answered("b", 0, "a", 200, "", b'{"p":0.10000000000000000001}')


@pytest.mark.parametrize("message", ["plain", f"with{BREAKS}breaks\r\n", 'and "quotes"'])
def test_a_request_without_an_answer_has_an_error(message: str) -> None:
    line = unanswered("batch_1", 7, "a", "request_timeout", message)

    assert_is_one_line(line)
    assert json.loads(line) == {
        "id": line_request_id("batch_1", 7),
        "custom_id": "a",
        "response": None,
        "error": {"code": "request_timeout", "message": message},
    }


@pytest.mark.parametrize(
    ("ending", "code"), [(Status.EXPIRING, "batch_expired"), (Status.CANCELLING, "batch_cancelled")]
)
def test_what_never_ran_says_why(ending: Status, code: str) -> None:
    assert never_ran(ending)[0] == code


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 5}, Usage(3, 0, 5, 0)),
        ({"input_tokens": 3, "output_tokens": 5}, Usage(3, 0, 5, 0)),
        (
            {
                "prompt_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(3, 2, 5, 4),
        ),
        (
            {"input_tokens_details": {"cached_tokens": 2}, "output_tokens_details": {"reasoning_tokens": None}},
            Usage(0, 2, 0, 0),
        ),
        ({"prompt_tokens": None}, NO_USAGE),
        ({"prompt_tokens": "many"}, NO_USAGE),
        ({"prompt_tokens": -4}, NO_USAGE),
        (None, NO_USAGE),
        ([], NO_USAGE),
    ],
)
def test_usage_is_read_by_either_name(reported: object, expected: Usage) -> None:
    assert read_usage(json.dumps({"usage": reported}).encode()) == expected


@pytest.mark.parametrize("odd", ["-5", "3.5", '"5"', "null", "true", "[]", "{}", "1e400", "-1e30", '{"n":1}'])
@pytest.mark.parametrize(
    ("field", "left"),
    [
        ("prompt_tokens", Usage(0, 2, 5, 4)),
        ("completion_tokens", Usage(3, 2, 0, 4)),
        ("prompt_tokens_details", Usage(3, 0, 5, 4)),
        ("completion_tokens_details", Usage(3, 2, 5, 0)),
        ("total_tokens", Usage(3, 2, 5, 4)),
    ],
)
def test_a_field_of_usage_that_is_no_count_leaves_the_others(odd: str, field: str, left: Usage) -> None:
    fields = {
        "prompt_tokens": "3",
        "prompt_tokens_details": '{"cached_tokens":2}',
        "completion_tokens": "5",
        "completion_tokens_details": '{"reasoning_tokens":4}',
    } | {field: odd}
    text = ",".join(f'"{name}":{value}' for name, value in fields.items())

    usage = read_usage(b'{"usage":{%b}}' % text.encode())

    assert usage == left


def test_a_detail_of_usage_that_is_no_count_leaves_the_others() -> None:
    body = (
        b'{"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":"x"},"output_tokens":5.0,'
        b'"output_tokens_details":{"reasoning_tokens":4}}}'
    )

    assert read_usage(body) == Usage(3, 0, 5, 4)


@pytest.mark.parametrize("digits", [18, 19, 20, 30, 5_000])
def test_usage_beyond_reason_does_not_overflow_a_column(digits: int) -> None:
    usage = read_usage(b'{"usage":{"prompt_tokens":%b}}' % (b"9" * digits))

    assert 0 <= usage.input_tokens < 2**31


@pytest.mark.parametrize("body", [b"[1]", b'"text"', b"null", b"{}"])
def test_answers_without_usage_report_none(body: bytes) -> None:
    assert read_usage(body) == NO_USAGE


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b'{"usage":{}} extra'])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_usage(body)


def test_usages_add_up() -> None:
    total = sum([Usage(1, 2, 3, 4), Usage(10, 20, 30, 40)], start=NO_USAGE)

    assert total == Usage(11, 22, 33, 44)
    assert total.total_tokens == 44


@pytest.mark.parametrize(
    ("met", "says"),
    [
        (None, ""),
        (Met(1, "503 Service Unavailable"), " It was called for once; the last call came to: 503 Service Unavailable"),
        (Met(14, "401 Unauthorized"), " It was called for 14 times; the last call came to: 401 Unauthorized"),
        (Met(0, "the model server is away."), " It was never called for: the model server is away."),
    ],
)
def test_a_line_without_a_result_says_what_it_met_last_and_how_often(met: Met | None, says: str) -> None:
    for ending, (code, message) in ((Status.EXPIRING, BATCH_EXPIRED), (Status.CANCELLING, BATCH_CANCELLED)):
        assert never_ran(ending, met) == (code, message + says)
