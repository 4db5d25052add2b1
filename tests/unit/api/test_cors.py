"""Web pages of other origins as callers."""

import pytest
from flask.testing import FlaskClient

from app.api.application import build_app
from tests.unit.api.conftest import KEY, World

PAGE = "https://example.com"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-stainless-lang",
}
ALLOWED = "Access-Control-Allow-Origin"


def browser(*origins: str) -> FlaskClient:
    return build_app(World(cors_origins=origins)).test_client()


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "/openai/files", "/v1/batches/batch_1/cancel"])
def test_a_preflight_of_an_allowed_page_is_answered_without_a_key(path: str) -> None:
    answer = browser(PAGE).options(path, headers=PREFLIGHT)

    assert answer.status_code == 204
    assert answer.headers[ALLOWED] == PAGE
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]


@pytest.mark.parametrize("key", [KEY, "wrong"])
def test_an_allowed_page_may_read_every_answer_errors_too(key: str) -> None:
    answer = browser(PAGE).get("/v1/files", headers={"Origin": PAGE, "Authorization": f"Bearer {key}"})

    assert answer.headers[ALLOWED] == PAGE
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    assert "Origin" in answer.headers["Vary"]


def test_a_star_allows_every_page() -> None:
    assert browser("*").options("/v1/files", headers=PREFLIGHT).headers[ALLOWED] == "*"


@pytest.mark.parametrize("origins", [(), ("https://other.example",), ("https://example.com.evil",)])
def test_any_other_page_gets_no_permission(origins: tuple[str, ...]) -> None:
    page = browser(*origins)

    assert ALLOWED not in page.options("/v1/files", headers=PREFLIGHT).headers
    answer = page.get("/v1/files", headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200
    assert ALLOWED not in answer.headers
