"""Azure's paths as OpenAI's."""

import pytest
from flask.testing import FlaskClient

from app.api.azure_paths import openai_path


@pytest.mark.parametrize(
    ("azure", "openai"),
    [
        ("/openai/files", "/v1/files"),
        ("/openai/v1/files", "/v1/files"),
        ("/openai/deployments/gpt-4o/files/file-1/content", "/v1/files/file-1/content"),
        ("/openai/batches/batch_1/cancel", "/v1/batches/batch_1/cancel"),
        ("/openai/v1/models/org/small", "/v1/models/org/small"),
    ],
)
def test_a_path_of_azure_is_one_of_openai(azure: str, openai: str) -> None:
    assert openai_path(azure) == openai


@pytest.mark.parametrize("path", ["/v1/files", "/openai", "/openai/healthz", "/openai/v1/x/files", "/files", "*", ""])
def test_any_other_path_stays_as_it_is(path: str) -> None:
    assert openai_path(path) == path


def test_azures_path_asks_for_a_key_as_any_other(client: FlaskClient, stranger: FlaskClient) -> None:
    assert client.get("/openai/files?api-version=2024-10-21").status_code == 200
    assert stranger.get("/openai/files?api-version=2024-10-21").status_code == 401
