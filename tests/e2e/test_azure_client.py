"""openai-python as users of Azure set it up: only the address and the key are ours."""

from typing import Any

import pytest
from openai import AzureOpenAI, DefaultHttpxClient, OpenAI

from tests.e2e.deployed import API_KEY, Deployed, await_end
from tests.integration.pipeline import request_line

pytestmark = pytest.mark.e2e

VERSION = "2024-10-21"


AZURE: dict[str, dict[str, object]] = {
    "classic": {"api_key": API_KEY},
    "with a deployment": {"api_key": API_KEY, "azure_deployment": "gpt-4o"},
    "with a token": {"azure_ad_token": API_KEY},
    "with a token's provider": {"azure_ad_token_provider": lambda: API_KEY},
}


def client_of(name: str, address: str) -> OpenAI:
    direct = DefaultHttpxClient(trust_env=False)
    if name == "v1":
        return OpenAI(base_url=f"{address}/openai/v1/", api_key=API_KEY, http_client=direct)
    options: Any = AZURE[name]
    return AzureOpenAI(azure_endpoint=address, api_version=VERSION, http_client=direct, **options)


@pytest.mark.parametrize("name", [*AZURE, "v1"])
@pytest.mark.parametrize("endpoint", ["/chat/completions", "/v1/chat/completions"])
def test_a_client_of_azure_runs_a_batch_from_its_upload_to_its_results(
    deployed: Deployed, name: str, endpoint: str
) -> None:
    lines = b"\n".join(
        request_line(custom_id, "hello").replace(b"/v1/chat/completions", endpoint.encode()) for custom_id in "ab"
    )

    with client_of(name, deployed.base_url.removesuffix("/v1")) as client:
        file = client.files.create(file=("in.jsonl", lines), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")  # type: ignore[arg-type]
        batch = await_end(client, batch.id)

        assert (batch.status, batch.request_counts and batch.request_counts.completed) == ("completed", 2)
        assert batch.output_file_id is not None
        assert len(client.files.content(batch.output_file_id).text.splitlines()) == 2
        assert batch.id in [listed.id for listed in client.batches.list(limit=100)]
        assert file.id in [listed.id for listed in client.files.list(purpose="batch")]
        assert client.models.list().data
        client.files.delete(file.id)
