import json
from typing import Any

import pytest

from app.domain.line import check_line

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


def body(**changes: object) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": {**BODY, **changes}}).encode()


@pytest.mark.parametrize(
    ("given", "requested"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 200, "max_tokens": 100}, 200),
        ({"max_output_tokens": 300}, 300),
        ({"max_tokens": None}, 0),
        ({"max_tokens": "many"}, 0),
        ({"max_tokens": -5}, 0),
        ({"max_tokens": 1.5}, 0),
    ],
)
def test_the_tokens_of_a_line_are_estimated_by_its_length_and_what_it_asks_for(
    given: dict[str, object], requested: int
) -> None:
    data = body(**given)

    assert check_line(data, CHAT).tokens == len(data) // 4 + requested


@pytest.mark.parametrize("asked", [2**32 - 2, 2**32, 10**30])
def test_an_estimate_of_tokens_fits_into_the_plan(asked: int) -> None:
    assert check_line(body(max_tokens=asked), CHAT).tokens == 2**32 - 1
