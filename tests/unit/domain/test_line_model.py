import json

import pytest

from app.domain.line import read_request
from app.domain.line_model import read_model


@pytest.mark.parametrize(
    ("given_body", "model"),
    [
        ({"model": "m", "messages": []}, "m"),
        ({"messages": ["\ud800"], "model": "größer"}, "größer"),
        ({"input": "x"}, None),
        ({"model": None, "input": "x"}, None),
        ({"model": "", "input": "x"}, None),
    ],
)
def test_the_model_is_read_of_a_checked_line(given_body: dict[str, object], model: str | None) -> None:
    request = read_request(json.dumps({"custom_id": "a", "body": given_body}).encode())

    assert read_model(request.body) == model
