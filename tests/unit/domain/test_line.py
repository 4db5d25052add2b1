import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import LineInvalid
from app.domain.limits import MAX_CUSTOM_ID_CHARS, MAX_JSON_DEPTH, MAX_LINE_BYTES
from app.domain.line import check_line, duplicate, model_not_found, read_request

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": CHAT,
    "body": {"model": "small", "messages": [{"role": "user", "content": "hi"}]},
}


def line(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def body(**changes: object) -> bytes:
    return line(body={**GOOD["body"], **changes})


def body_without(name: str) -> bytes:
    return line(body={key: value for key, value in GOOD["body"].items() if key != name})


NOT_JSON = ("invalid_json_line", None, "not parseable as valid JSON")
NOT_OBJECT = ("invalid_json_line", None, "not a JSON object")
STREAMS = ("streaming_unsupported", "body.stream", "Streaming is not supported in the Batch API")
MISSING = "Missing required parameter: '{}'."
BAD_LINES: dict[str, tuple[bytes, tuple[str, str | None, str]]] = {
    "no JSON": (b"hello", NOT_JSON),
    "JSON cut off": (line()[:-1], NOT_JSON),
    "two values": (line() + line(), NOT_JSON),
    "a raw control character": (line().replace(b"hi", b"h\x01"), NOT_JSON),
    "a surrogate cut off": (line().replace(b"hi", b"\\ud8"), NOT_JSON),
    "a surrogate without its digits": (line().replace(b"hi", b"\\udxyz"), NOT_JSON),
    "no JSON beside a lone surrogate": (line().replace(b"hi", b"\\ud800\\x"), NOT_JSON),
    "half an array": (b"[hello", NOT_JSON),
    "half of a character as custom_id": (
        line(custom_id="a\ud800"),
        ("invalid_request", "custom_id", "half of a surrogate pair"),
    ),
    "NaN": (body(temperature=float("nan")), NOT_JSON),
    "an array": (b"[1]", NOT_OBJECT),
    "a string": (b'"a"', NOT_OBJECT),
    "null": (b"null", NOT_OBJECT),
    "bytes that are not UTF-8": (line().replace(b"hi", b"\xff"), ("invalid_json_line", None, "not valid UTF-8")),
    "UTF-16": (line().decode().encode("utf-16"), ("invalid_json_line", None, "not valid UTF-8")),
    "deep nesting": (
        line().replace(b'"hi"', b"[" * 200 + b"]" * 200),
        ("invalid_json_line", None, "nested deeper than 100 levels"),
    ),
    "a string without an end, behind many brackets": (b"[]" * 101 + b'"' + b'\\"' * 500_000, NOT_JSON),
    "nesting without an end": (b"[" * 100_000, ("invalid_json_line", None, "nested deeper")),
    "a line over the limit": (b" " * (MAX_LINE_BYTES + 1), ("line_too_long", None, "longer than 8,388,608 bytes")),
    "no custom_id": (without("custom_id"), ("missing_required_parameter", "custom_id", MISSING.format("custom_id"))),
    "no method": (without("method"), ("missing_required_parameter", "method", MISSING.format("method"))),
    "no url": (without("url"), ("missing_required_parameter", "url", MISSING.format("url"))),
    "no body": (without("body"), ("missing_required_parameter", "body", MISSING.format("body"))),
    "custom_id null": (line(custom_id=None), ("missing_required_parameter", "custom_id", "custom_id")),
    "nothing at all": (b"{}", ("missing_required_parameter", "custom_id", "custom_id")),
    "custom_id a number": (line(custom_id=7), ("invalid_request", "custom_id", "must be a string")),
    "custom_id empty": (line(custom_id=""), ("invalid_request", "custom_id", "1 to 512 characters")),
    "custom_id too long": (
        line(custom_id="x" * (MAX_CUSTOM_ID_CHARS + 1)),
        ("invalid_request", "custom_id", "1 to 512 characters"),
    ),
    "body a string": (line(body="{}"), ("invalid_request", "body", "must be an object")),
    "another method": (line(method="GET"), ("invalid_request", "method", "must be POST")),
    "another url": (line(url="/v1/embeddings"), ("invalid_url", "url", "does not match the batch endpoint")),
    "stream": (body(stream=True), STREAMS),
    "stream a string": (body(stream="yes"), ("invalid_request", "body.stream", "must be a boolean")),
    "no model": (body_without("model"), ("invalid_request", "body.model", "Model parameter is required.")),
    "model null": (body(model=None), ("invalid_request", "body.model", "Model parameter is required.")),
    "model empty": (body(model=""), ("invalid_request", "body.model", "Model parameter is required.")),
    "half of a character as model": (
        body(model="small\udc00"),
        ("invalid_request", "body.model", "half of a surrogate pair"),
    ),
    "stream a string beside a lone surrogate": (
        body(stream="yes", user="\ud800"),
        ("invalid_request", "body.stream", "must be a boolean"),
    ),
    "stream beside a lone surrogate": (body(stream=True, user="\ud800"), STREAMS),
    "no body beside a lone surrogate": (
        without("body").replace(b'"a"', b'"a", "x": "\\ud800"'),
        ("missing_required_parameter", "body", MISSING.format("body")),
    ),
    "model a number": (body(model=1), ("invalid_request", "body.model", "must be a string")),
    "no messages": (body_without("messages"), ("invalid_request", "body.messages", "Messages parameter is required.")),
    "messages null": (body(messages=None), ("invalid_request", "body.messages", "Messages parameter is required.")),
}

GOOD_LINES: dict[str, bytes] = {
    "the plainest": line(),
    "with spaces around": b"  " + line() + b"\t",
    "with unknown fields": line(extra=[1]),
    "stream false": body(stream=False),
    "stream null": body(stream=None),
    "a huge number": body(seed=10**400),
    "a number out of range": line().replace(b'"hi"', b"1e999"),
    "half of a character at the end": line().replace(b"hi", b"cut off \\ud83d"),
    "halves of a character in the wrong order": line().replace(b"hi", b"\\uDE00\\uD83D"),
    "half of a character in a key": body(metadata={"\ud800": 1}),
    "half of a character beside whole ones in all else": json.dumps(
        {**GOOD, "custom_id": "🎈\\ud800", "x🎈": "\ud83d🎈\ud83d"}
    ).encode(),
    "brackets inside strings": line().replace(b"hi", b"[" * 5_000),
    "an escaped quote before brackets": line().replace(b"hi", b'\\"' + b"[{" * 5_000),
    "as deep as may be": line().replace(b'"hi"', b"[" * (MAX_JSON_DEPTH - 4) + b"]" * (MAX_JSON_DEPTH - 4)),
    "the longest custom_id": line(custom_id="名" * MAX_CUSTOM_ID_CHARS),
    "exactly at the limit of size": line() + b" " * (MAX_LINE_BYTES - len(line())),
    "characters beyond ASCII": json.dumps({**GOOD, "x": "“ü” 🎈"}, ensure_ascii=False).encode(),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_refused_with_code_param_and_message(case: str) -> None:
    data, (code, param, message) = BAD_LINES[case]

    with pytest.raises(LineInvalid) as caught:
        check_line(data, CHAT)

    assert (caught.value.code, caught.value.param) == (code, param)
    assert message in caught.value.message


@pytest.mark.parametrize("case", GOOD_LINES)
def test_a_good_line_is_accepted(case: str) -> None:
    checked = check_line(GOOD_LINES[case], CHAT)

    assert checked.model == "small"


@pytest.mark.parametrize(
    ("endpoint", "given", "param"),
    [
        ("/v1/completions", {"model": "m", "prompt": "x"}, None),
        ("/v1/completions", {"model": "m"}, "body.prompt"),
        ("/v1/embeddings", {"model": "m", "input": "x"}, None),
        ("/v1/embeddings", {"model": "m"}, "body.input"),
        ("/v1/responses", {"model": "m", "input": "x"}, None),
        ("/v1/responses", {"model": "m", "previous_response_id": "resp_1"}, None),
        ("/v1/responses", {"model": "m", "prompt": {"id": "p"}}, None),
        ("/v1/responses", {"model": "m"}, "body.input"),
        ("/v1/moderations", {"input": "x"}, None),
        ("/v1/moderations", {"model": "m"}, "body.input"),
        ("/v1/images/generations", {"model": "m"}, None),
        ("/v1/images/generations", {}, "body.model"),
    ],
)
def test_each_endpoint_needs_its_own_input(endpoint: str, given: dict[str, object], param: str | None) -> None:
    data = line(url=endpoint, body=given)

    if param is None:
        assert check_line(data, endpoint).model == given.get("model")
        return
    with pytest.raises(LineInvalid) as caught:
        check_line(data, endpoint)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("one", 1),
        (["one", 'with ", " inside', "three"], 3),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        ([], 1),
        (["x"] * 60_000, 60_000),
    ],
)
def test_the_inputs_of_an_embeddings_line_are_counted(given: object, inputs: int) -> None:
    data = line(url="/v1/embeddings", body={"model": "m", "input": given})

    assert check_line(data, "/v1/embeddings")[:3] == ("a", "m", inputs)


def test_the_body_is_handed_on_as_the_bytes_that_came() -> None:
    data = (
        b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{ "model":"m", "messages":[1.50, 1e2]}}'
    )
    check_line(data, CHAT)

    request = read_request(data)

    assert bytes(request.body) == b'{ "model":"m", "messages":[1.50, 1e2]}'
    assert request.custom_id == "a"


@pytest.mark.parametrize(
    "content", [b"\\ud800", b"\\uDC00\\ud83d\\ude00\\ud83d", b"\\\\ud800\\ud800", "é🎈\\ud800".encode()]
)
def test_a_lone_surrogate_is_handed_on_byte_for_byte(content: bytes) -> None:
    given = b'{"model":"small", "messages":[{"role":"user","content":"%b"}]}' % content
    data = line(custom_id="n° 🎈 \\").replace(json.dumps(GOOD["body"]).encode(), given)
    checked = check_line(data, CHAT)

    request = read_request(data)

    assert bytes(request.body) == given
    assert request.custom_id == checked.custom_id == "n° 🎈 \\"


def test_a_model_with_a_long_name_is_cut_in_the_message() -> None:
    assert len(model_not_found("x" * 100_000).message) < 400
    assert model_not_found("other").message == "The provided model 'other' is not supported by the Batch API."


def test_a_duplicate_names_its_parameter() -> None:
    assert (duplicate().code, duplicate().param) == ("duplicate_custom_id", "custom_id")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise_anything_but_line_invalid(data: bytes) -> None:
    with pytest.raises(LineInvalid):
        check_line(data, CHAT)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_body_raises_anything_but_line_invalid(value: object) -> None:
    data = line(body=value)

    with pytest.raises(LineInvalid):
        check_line(data, CHAT)


def test_azures_form_of_a_url_without_its_version_is_the_endpoints() -> None:
    assert check_line(line(url="/chat/completions"), CHAT).custom_id


@pytest.mark.parametrize("url", ["chat/completions", "/v1/v1/chat/completions", "//chat/completions", "/completions"])
def test_any_other_url_is_not_the_endpoints(url: str) -> None:
    with pytest.raises(LineInvalid) as fault:
        check_line(line(url=url), CHAT)
    assert fault.value.code == "invalid_url"


PROMPT = [{"role": "system", "content": "s" * 300}]
TOOLS = [{"type": "function", "function": {"name": "f" * 300}}]


def key(endpoint: str = CHAT, **given: object) -> int:
    """Return the upper bits of a line's key, those of what the model sees in the first 256 bytes."""
    return check_line(line(url=endpoint, body={"model": "m", **given}), endpoint).prefix_key >> 48


def test_lines_that_begin_alike_share_a_key() -> None:
    hello, goodbye = ([*PROMPT, {"role": "user", "content": text}] for text in ("hello", "goodbye"))

    assert key(messages=hello) == key(messages=goodbye)
    assert key(messages=hello) != key(messages=hello[1:])
    # Each model keeps its own: they stay mixed as they are in the file.
    assert key(messages=hello, model="other") == key(messages=hello)


@pytest.mark.parametrize(
    ("endpoint", "first", "then"),
    [
        (CHAT, {"tools": TOOLS}, {"messages": PROMPT}),
        ("/v1/responses", {"tools": TOOLS}, {"instructions": "i" * 300}),
        ("/v1/responses", {"instructions": "i" * 300}, {"input": "x" * 300}),
        ("/v1/messages", {"system": "s" * 300}, {"messages": PROMPT}),
        ("/v1/completions", {"prompt": "p" * 300}, {}),
    ],
)
def test_what_the_model_sees_first_makes_the_key(
    endpoint: str, first: dict[str, object], then: dict[str, object]
) -> None:
    needed = {"messages": [], "prompt": "", "input": ""}

    assert key(endpoint, **needed | first | then) == key(endpoint, **needed | first)
    assert key(endpoint, **needed | first | then) == key(endpoint, **needed | then | first)
    assert key(endpoint, **needed | first) != key(endpoint, **needed | then)


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/moderations"])
def test_lines_whose_model_keeps_nothing_are_all_alike(endpoint: str) -> None:
    assert {key(endpoint, input=text * 300) for text in "abc"} == {0}
