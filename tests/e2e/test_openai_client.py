"""The official Python client against `wylon up`: a caller changes the base URL and nothing else."""

import pytest
from openai import AuthenticationError, BadRequestError, ConflictError, NotFoundError, OpenAI

from tests.e2e.deployed import Deployed, await_completed, await_end, content_lines, submit
from tests.integration.pipeline import CHAT, custom_ids, request_line, request_lines

pytestmark = pytest.mark.e2e


def test_the_whole_job(client: OpenAI) -> None:
    kinds = ["fine", "[[fail:500x1]]", "[[fail:400]]"]
    lines = [request_line(f"id-{number}", f"{kinds[number % 3]} {number}") for number in range(30)]

    file = client.files.create(file=("in.jsonl", b"\n".join(lines)), purpose="batch")
    ready = client.files.wait_for_processing(file.id)
    created = client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"team": "blue"}
    )
    batch = await_end(client, created.id)

    assert ready.status == "processed"
    assert created.status == "validating"
    assert (batch.status, batch.errors, batch.model) == ("completed", None, "echo")
    assert batch.metadata == {"team": "blue"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 30, "completed": 20, "failed": 10}
    output = content_lines(client, batch.output_file_id)
    errors = content_lines(client, batch.error_file_id)
    assert custom_ids(output) == [f"id-{number}" for number in range(30) if number % 3 != 2]
    assert custom_ids(errors) == [f"id-{number}" for number in range(30) if number % 3 == 2]
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(line["response"]["body"]["usage"]["total_tokens"] for line in output)


def test_objects_are_listed_looked_up_and_deleted(client: OpenAI) -> None:
    batch = submit(client, request_lines(3))
    await_end(client, batch.id)

    listed = [one.id for one in client.batches.list(limit=1)]
    files = [one.id for one in client.files.list(purpose="batch")]
    deleted = client.files.delete(batch.input_file_id)

    assert listed[0] == batch.id
    assert batch.input_file_id in files
    assert deleted.deleted
    with pytest.raises(NotFoundError, match="No such File object"):
        client.files.retrieve(batch.input_file_id)


def test_models_are_those_of_the_upstream(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["wylon-echo"]


def test_a_cancelled_batch_keeps_what_is_done(client: OpenAI) -> None:
    # Of 8 calls in flight a batch may make 7. Lines begin in about their order, and hanging lines may come first.
    lines = [*request_lines(5), *(request_line(f"slow-{number}", f"[[fail:hang]] {number}") for number in range(4))]
    created = submit(client, lines)
    await_completed(client, created.id, 5)

    cancelling = client.batches.cancel(created.id)
    batch = await_end(client, created.id)

    assert cancelling.status == "cancelling"
    assert cancelling.cancelling_at
    assert batch.status == "cancelled"
    assert len(content_lines(client, batch.output_file_id)) == 5
    assert {line["error"]["code"] for line in content_lines(client, batch.error_file_id)} == {"batch_cancelled"}


def test_the_raw_answers_carry_status_and_request_id(client: OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", request_line("a", "hello")), purpose="batch")

    created = client.batches.with_raw_response.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    looked_up = client.batches.with_raw_response.retrieve(created.parse().id)

    assert created.status_code == 201
    assert looked_up.status_code == 200
    ids = [answer.headers["x-request-id"] for answer in (created, looked_up)]
    assert all(value.startswith("req_") for value in ids)
    assert len(set(ids)) == 2


def test_every_bad_line_is_reported_with_its_number(client: OpenAI) -> None:
    good = request_line("a", "hello")
    bad = [
        b"{broken",
        b"[1]",
        good,
        b'{"custom_id":"c","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}',
        request_line("d", "hello").replace(b'"model"', b'"stream": true, "model"'),
        b'{"custom_id":"e","method":"POST","url":"/v1/chat/completions"}',
        b'{"custom_id":"\xff"}',
        b'{"custom_id":"f","body":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        request_line("g", "x" * (8 * 1024 * 1024 + 1)),
    ]

    batch = await_end(client, submit(client, [good, *bad]).id)

    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [error.line for error in batch.errors.data] == list(range(2, 11))
    codes = [error.code for error in batch.errors.data]
    assert codes[0] == "invalid_json_line"
    assert codes[2:6] == [
        "duplicate_custom_id",
        "invalid_url",
        "streaming_unsupported",
        "missing_required_parameter",
    ]
    assert codes[8] == "line_too_long"


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\n\n", "empty_file"), (b"\n".join(request_lines(50_001)), "too_many_tasks")],
    ids=["no requests", "one request too many"],
)
def test_a_file_that_is_no_batch_fails_as_a_whole(client: OpenAI, data: bytes, code: str) -> None:
    batch = await_end(client, submit(client, [data]).id)

    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or []] == [(code, None)]


def test_what_can_be_refused_at_once_is(deployed: Deployed, client: OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", request_line("a", "hello")), purpose="batch")
    done = await_end(client, submit(client, request_lines(1)).id)

    with pytest.raises(NotFoundError):
        client.batches.create(input_file_id="file-unknown", endpoint=CHAT, completion_window="24h")
    with pytest.raises(BadRequestError) as unsupported:
        client.batches.create(input_file_id=file.id, endpoint="/v1/other", completion_window="24h")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        client.batches.retrieve("batch_unknown")
    with pytest.raises(ConflictError) as late:
        client.batches.cancel(done.id)
    with pytest.raises(AuthenticationError):
        deployed.client(max_retries=0).with_options(api_key="wrong").models.list()
    with pytest.raises(BadRequestError) as purpose:
        client.files.create(file=("in.jsonl", b"{}"), purpose="other")  # type: ignore[arg-type]

    assert unsupported.value.param == "endpoint"
    assert purpose.value.param == "purpose"
    assert late.value.response.headers["x-should-retry"] == "false"
    assert (late.value.request_id or "").startswith("req_")
