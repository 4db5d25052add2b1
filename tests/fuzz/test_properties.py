"""Properties of the two parsers that read what callers write."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import LineInvalid
from app.domain.line import check_line, read_request
from app.domain.source_lines import read_lines
from tests.fuzz.targets import ENDPOINTS, TARGETS, read_form

CHAT = ENDPOINTS[0]
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_VALUES = st.recursive(
    _SCALARS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=10,
)
# Field names and filenames as they stand in quotes.
_NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters='"\\/;%'), max_size=20
)
_QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_QUIET
@given(custom_id=_TEXT.filter(bool), messages=_VALUES.filter(lambda value: value is not None), more=_VALUES)
def test_what_any_writer_of_json_makes_of_a_request_is_taken_and_kept(
    custom_id: str, messages: object, more: object
) -> None:
    body = {"model": "small", "messages": messages, "more": more}
    line = json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}).encode()

    checked, request = check_line(line, CHAT), read_request(line)

    assert (checked.custom_id, checked.model, request.custom_id) == (custom_id, "small", custom_id)
    assert json.loads(bytes(request.body)) == body


@_QUIET
@given(value=_VALUES)
def test_json_that_is_no_request_is_refused_by_name(value: Any) -> None:
    with pytest.raises(LineInvalid) as refused:
        check_line(json.dumps(value).encode(), CHAT)

    assert refused.value.code in {"invalid_json_line", "missing_required_parameter", "invalid_request"}


@_QUIET
@given(target=st.sampled_from(sorted(TARGETS)), data=st.binary(max_size=400))
def test_no_bytes_show_a_defect(target: str, data: bytes) -> None:
    TARGETS[target](data)


@_QUIET
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)))
def test_lines_are_the_same_wherever_a_file_is_cut(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(data)]

    cut = list(read_lines([data[start:end] for start, end in pairwise(edges)]))

    assert cut == list(read_lines([data]))


@_QUIET
@given(
    content=st.binary(max_size=200).filter(lambda data: b"--b" not in data),
    filename=_NAMES,
    is_file_first=st.booleans(),
    size=st.integers(1, 400),
)
def test_a_form_brings_what_was_put_in_wherever_it_is_cut(
    content: bytes, filename: str, is_file_first: bool, size: int
) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    file = head.encode() + content + b"\r\n"
    purpose = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    body = (file + purpose if is_file_first else purpose + file) + b"--b--\r\n"

    read, _ = read_form([body[at : at + size] for at in range(0, len(body), size)])

    assert read is not None
    assert (read[0], read[2]) == (content, {"purpose": "batch"})
