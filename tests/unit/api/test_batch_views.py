import io
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types import Batch

from app.domain.batch import LineError, Usage
from app.domain.lifecycle import Event, Status, shown
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Planned
from tests.unit.api.conftest import World
from tests.unit.api.wire import check_shape, error_of, statuses


def upload(client: FlaskClient, purpose: str = "batch") -> str:
    form = {"purpose": purpose, "file": (io.BytesIO(b"{}\n"), "in.jsonl")}
    file_id: str = client.post("/v1/files", data=form).json["id"]
    return file_id


def create(client: FlaskClient, **changes: Any) -> Any:
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **changes}
    if "input_file_id" not in body:
        body["input_file_id"] = upload(client)
    return client.post("/v1/batches", json=body)


def test_a_new_batch_is_a_batch_of_the_official_client(client: FlaskClient, world: World) -> None:
    response = create(client, metadata={"team": "search"})

    assert response.status_code == 201
    check_shape(Batch, response.json)
    assert response.json["status"] == "validating"
    assert response.json["metadata"] == {"team": "search"}
    assert response.json["expires_at"] == response.json["created_at"] + 86_400
    assert response.json["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert world.queue.validated == [response.json["id"]]


def test_a_batch_keeps_by_which_key_it_was_created(other_client: FlaskClient, world: World) -> None:
    batch_id = create(other_client).json["id"]

    assert world.database.batches[batch_id].batch.api_key_id == "key_other"


def test_a_batch_with_everything_set_is_a_batch_of_the_official_client(client: FlaskClient, world: World) -> None:
    batch_id = create(client).json["id"]
    row = world.database.batches[batch_id]
    instants = dict.fromkeys(["in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at"], 5.9)
    row.batch = replace(
        row.batch,
        **instants,
        cancelling_at=6.0,
        cancelled_at=7.0,
        status=Status.FAILED,
        model="small",
        metadata={},
        errors=(LineError("invalid_url", "No.", 3, "url"), LineError("empty_file", "Empty.")),
        usage=Usage(5, 1, 7, 2),
        total=4,
        completed=3,
        failed=1,
        output_file_id="file-out",
        error_file_id="file-err",
    )

    body = client.get(f"/v1/batches/{batch_id}").json

    check_shape(Batch, body)
    assert body["completed_at"] == 5
    assert body["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert body["usage"]["total_tokens"] == 12
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 1}
    assert body["errors"]["object"] == "list"
    assert body["errors"]["data"] == [
        {"code": "invalid_url", "line": 3, "message": "No.", "param": "url"},
        {"code": "empty_file", "line": None, "message": "Empty.", "param": None},
    ]


@pytest.mark.parametrize("status", Status)
def test_every_status_is_shown_as_one_that_clients_know(client: FlaskClient, world: World, status: Status) -> None:
    batch_id = create(client).json["id"]
    row = world.database.batches[batch_id]
    row.batch = replace(row.batch, status=status)

    body = client.get(f"/v1/batches/{batch_id}").json

    assert body["status"] == shown(status)
    assert body["status"] in statuses(Batch)


@pytest.mark.parametrize("name", ["input_file_id", "endpoint", "completion_window"])
def test_a_missing_field_is_named(client: FlaskClient, name: str) -> None:
    body = {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    body[name + "s"] = body.pop(name)

    error = error_of(client.post("/v1/batches", json=body), 400)

    assert error["message"] == f"Missing required parameter: '{name}'."
    assert (error["param"], error["code"]) == (name, "missing_required_parameter")


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"endpoint": "/v1/invalid/endpoint"}, "endpoint", "invalid_value"),
        ({"endpoint": 5}, "endpoint", "invalid_type"),
        ({"endpoint": None}, "endpoint", "invalid_type"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"metadata": ["a"]}, "metadata", "invalid_type"),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
        ({"metadata": {"n": 1}}, "metadata.n", "invalid_type"),
        ({"metadata": {"n": None}}, "metadata.n", "invalid_type"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "invalid_value"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "a\x00b"}}, "metadata.k", "invalid_value"),
        ({"metadata": {"a\x00b": "v"}}, "metadata", "invalid_value"),
        (
            {"output_expires_after": {"anchor": "created_at"}},
            "output_expires_after.seconds",
            "missing_required_parameter",
        ),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 3_599}},
            "output_expires_after.seconds",
            "invalid_value",
        ),
        ({"output_expires_after": {"anchor": "now", "seconds": 3_600}}, "output_expires_after.anchor", "invalid_value"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": "x"}},
            "output_expires_after.seconds",
            "invalid_type",
        ),
        ({"output_expires_after": 5}, "output_expires_after", "invalid_type"),
        ({"input_file_id": ["file-1"]}, "input_file_id", "invalid_type"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    client: FlaskClient, world: World, changes: dict[str, Any], param: str, code: str
) -> None:
    error = error_of(create(client, **changes), 400)

    assert (error["param"], error["code"]) == (param, code)
    assert not world.database.batches


@pytest.mark.parametrize("file_id", ["", " ", "\t\n"])
def test_an_empty_input_file_id_is_a_bad_request_that_names_it(client: FlaskClient, file_id: str) -> None:
    assert error_of(create(client, input_file_id=file_id), 400)["param"] == "input_file_id"


@pytest.mark.parametrize("endpoint", ["/chat/completions", "/v1/chat/completions"])
def test_an_endpoint_without_its_version_is_the_same_endpoint(client: FlaskClient, world: World, endpoint: str) -> None:
    batch = create(client, endpoint=endpoint, input_file_id=upload(client)).json

    assert batch["endpoint"] == "/v1/chat/completions"


@pytest.mark.parametrize("file_id", ["file-unknown", "a\x00b", "batch_1", "x" * 9_000])
def test_an_unknown_input_file_is_not_found(client: FlaskClient, file_id: str) -> None:
    error = error_of(create(client, input_file_id=file_id), 404)

    assert error["param"] == "input_file_id"
    assert error["message"].startswith(f"No such File object: {file_id[:50]}")


def test_another_tenants_input_file_is_not_found(client: FlaskClient, other_client: FlaskClient) -> None:
    assert error_of(create(client, input_file_id=upload(other_client)), 404)["param"] == "input_file_id"


def test_a_file_with_another_purpose_is_refused(client: FlaskClient) -> None:
    assert error_of(create(client, input_file_id=upload(client, "vision")), 400)["param"] == "input_file_id"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"null", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"metadata":' * 50_000, "application/json"),
        (b'{"endpoint": "\xff"}', "application/json"),
        (b'{"endpoint": "\\ud800"}', "application/json"),
        (b'{"a": NaN}', "application/json"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"{}", "text/plain"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(client: FlaskClient, body: bytes, content_type: str) -> None:
    error_of(client.post("/v1/batches", data=body, content_type=content_type), 400)


def test_a_body_over_the_limit_is_refused(client: FlaskClient) -> None:
    response = client.post("/v1/batches", json={"padding": "x" * 1_100_000})

    assert "1 MiB" in error_of(response, 413)["message"]


def test_unknown_fields_are_ignored(client: FlaskClient) -> None:
    assert create(client, priority="high").status_code == 201


def test_the_same_request_with_the_same_key_makes_one_batch(client: FlaskClient, world: World) -> None:
    file_id = upload(client)
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "k"

    first, again = create(client, input_file_id=file_id), create(client, input_file_id=file_id)
    other = create(client, input_file_id=file_id, metadata={"a": "b"})

    assert again.status_code == 201
    assert again.json == first.json
    assert error_of(other, 409)
    assert len(world.database.batches) == 1


def test_batches_are_listed_in_pages(client: FlaskClient, world: World) -> None:
    ids = []
    for _ in range(3):
        ids.append(create(client).json["id"])
        world.clock.advance(1)

    first = client.get("/v1/batches?limit=2").json
    second = client.get(f"/v1/batches?limit=2&after={first['last_id']}").json

    assert [batch["id"] for batch in first["data"] + second["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5"])
def test_a_limit_that_does_not_fit_is_refused(client: FlaskClient, limit: str) -> None:
    assert error_of(client.get(f"/v1/batches?limit={limit}"), 400)["param"] == "limit"


@pytest.mark.parametrize("after", ["batch_unknown", "%00", "file-1"])
def test_a_page_after_no_known_batch_is_not_found(client: FlaskClient, after: str) -> None:
    assert error_of(client.get(f"/v1/batches?after={after}"), 404)["param"] == "after"


def test_a_batch_that_is_not_there_or_not_ones_own_is_not_found(client: FlaskClient, other_client: FlaskClient) -> None:
    batch_id = create(client).json["id"]

    for caller, known in ((client, "batch_no"), (other_client, batch_id), (client, "a%00b")):
        assert error_of(caller.get(f"/v1/batches/{known}"), 404)["message"].startswith("No batch found with id '")
        assert error_of(caller.post(f"/v1/batches/{known}/cancel"), 404)


def test_a_cancel_needs_no_body_and_is_seen_at_once(client: FlaskClient, world: World) -> None:
    batch_id = create(client).json["id"]

    response = client.post(f"/v1/batches/{batch_id}/cancel")

    assert response.status_code == 200
    assert response.json["status"] == "cancelling"
    assert response.json["cancelling_at"] == world.clock.now()


def test_a_cancel_that_comes_too_late_is_not_worth_a_retry(client: FlaskClient, world: World) -> None:
    batch_id = create(client).json["id"]
    world.batch_store.accept(batch_id, Planned("plans/p", 1, [(DEFAULT_UPSTREAM, 1)], None), world.clock.now())
    row = world.database.batches[batch_id]
    row.batch = replace(row.batch, status=Status.COMPLETED)

    response = client.post(f"/v1/batches/{batch_id}/cancel")

    assert error_of(response, 409) == {
        "message": "Cannot cancel a batch with status 'completed'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert response.headers["x-should-retry"] == "false"


def test_a_cancel_after_the_window_says_that_it_has_elapsed(client: FlaskClient, world: World) -> None:
    batch_id = create(client).json["id"]
    world.batch_store.advance(batch_id, Event.WINDOW_ELAPSED, world.clock.now())

    error = error_of(client.post(f"/v1/batches/{batch_id}/cancel"), 409)

    assert "window has elapsed" in error["message"]
