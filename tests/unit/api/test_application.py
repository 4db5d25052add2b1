"""What holds for every route: keys, envelopes, headers, the description."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai.types import Model
from structlog.testing import capture_logs

from app.api.application import build_app
from app.domain.errors import Unavailable
from tests.unit.api.conftest import KEY, Catalog, World, caller
from tests.unit.api.wire import error_of

PUBLIC = {"/healthz", "/readyz", "/openapi.json", "/docs"}


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, rule.rule.replace("<path:", "<")


def test_every_route_but_the_public_ones_asks_for_a_key(app: Flask, stranger: FlaskClient) -> None:
    for method, path in routes(app):
        response = stranger.open(path.replace("<", "").replace(">", ""), method=method)
        if path in PUBLIC:
            assert response.status_code == 200, path
        else:
            assert error_of(response, 401)["code"] == "invalid_api_key"
            assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Bearer", "wy-one", "Basic d3k6b25l", "Bearer wy-oné"])
def test_a_key_that_is_not_known_is_refused(stranger: FlaskClient, header: str) -> None:
    response = stranger.get("/v1/files", headers={"Authorization": header})

    assert "wrong" not in error_of(response, 401)["message"]


def test_the_name_of_the_scheme_is_read_in_any_case(stranger: FlaskClient) -> None:
    assert stranger.get("/v1/files", headers={"Authorization": "bearer  wy-one"}).status_code == 200


def test_every_answer_has_the_headers_that_clients_look_at(client: FlaskClient) -> None:
    ids = set()
    for path in ("/v1/files", "/nowhere", "/v1/files/x", "/healthz", "/openapi.json"):
        headers = client.get(path).headers
        ids.add(headers["x-request-id"])
        assert headers["openai-version"] == "2020-10-01"
        assert int(headers["openai-processing-ms"]) >= 0
        assert headers["x-content-type-options"] == "nosniff"
    assert len(ids) == 5


@pytest.mark.parametrize("given", ["a", "trace 7f/3", "x" * 128, "req_0", "~!"])
def test_the_id_that_a_caller_gives_its_request_is_kept(
    client: FlaskClient, logs: list[MutableMapping[str, Any]], given: str
) -> None:
    assert client.get("/v1/files", headers={"x-request-id": given}).headers["x-request-id"] == given
    assert [line["request_id"] for line in logs if line["event"] == "request.answered"] == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "a\x1b[31m", "é", " "])
def test_an_id_that_no_log_can_carry_is_replaced(client: FlaskClient, given: str) -> None:
    assert client.get("/v1/files", headers={"x-request-id": given}).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("headers", [{"api-key": KEY}, {"x-api-key": KEY}, {"Authorization": "", "api-key": KEY}])
def test_a_key_is_read_where_other_clients_send_it(stranger: FlaskClient, headers: dict[str, str]) -> None:
    assert stranger.get("/v1/files", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{"api-key": "wrong"}, {"Authorization": "Bearer wrong", "api-key": KEY}])
def test_a_wrong_key_is_refused_whichever_header_has_it(stranger: FlaskClient, headers: dict[str, str]) -> None:
    error_of(stranger.get("/v1/files", headers=headers), 401)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/files/", "/v1//files", "/v2/files", "/v1/files/a/b", "/static/x"])
def test_an_unknown_url_is_said_to_be_unknown(client: FlaskClient, path: str) -> None:
    assert error_of(client.get(path), 404)["code"] == "unknown_url"


def test_a_method_that_is_not_served_names_those_that_are(client: FlaskClient) -> None:
    response = client.put("/v1/files")

    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert "POST" in response.headers["Allow"]


def test_a_bug_tells_the_caller_nothing_of_our_insides(app: Flask, client: FlaskClient) -> None:
    def broken() -> str:
        raise RuntimeError("the secret")

    app.add_url_rule("/broken", "broken", broken)

    with capture_logs() as logs:
        response = client.get("/broken")

    assert "secret" not in error_of(response, 500)["message"]
    failed = next(line for line in logs if line["event"] == "request.failed")
    assert failed["request_id"] == response.headers["x-request-id"]


def test_models_have_what_clients_need_and_keep_what_the_upstream_says(client: FlaskClient, world: World) -> None:
    world.catalog = Catalog([{"id": "org/small", "max_model_len": 512}])

    listed = client.get("/v1/models").json
    one = client.get("/v1/models/org/small").json

    assert listed == {"object": "list", "data": [one]}
    assert one.pop("max_model_len") == 512
    assert Model.model_validate(one, strict=True).to_dict() == one


def test_an_unknown_model_is_not_found(client: FlaskClient) -> None:
    assert error_of(client.get("/v1/models/none"), 404)["code"] == "model_not_found"


def test_an_upstream_that_does_not_answer_is_worth_a_retry(client: FlaskClient, world: World) -> None:
    world.catalog.listed = None

    response = client.get("/v1/models")

    error = error_of(response, 503)
    assert error["code"] == "unavailable"
    assert "upstream" not in error["message"]
    assert 0 < int(response.headers["Retry-After"]) < 120


def test_readiness_names_what_does_not_work(world: World, app: Flask, stranger: FlaskClient) -> None:
    def fails() -> None:
        raise Unavailable("redis://secret:6379 does not answer")

    world.readiness = {"database": lambda: None, "broker": fails}

    message = error_of(stranger.get("/readyz"), 503)["message"]

    assert "broker" in message
    assert "database" not in message
    assert "secret" not in message


def test_the_description_has_every_route_and_no_other(app: Flask, stranger: FlaskClient) -> None:
    document = stranger.get("/openapi.json").json

    described = {(m.upper(), path) for path, item in document["paths"].items() for m in item if m != "parameters"}
    served = {(m, p.replace("<", "{").replace(">", "}")) for m, p in routes(app)}
    assert described == served - {("GET", "/openapi.json"), ("GET", "/docs")}


def test_the_description_states_keys_and_errors(stranger: FlaskClient) -> None:
    document = stranger.get("/openapi.json").json

    create, health = document["paths"]["/v1/batches"]["post"], document["paths"]["/healthz"]["get"]
    assert document["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    assert health["security"] == []
    assert {"201", "400", "401", "404", "409", "413"} <= set(create["responses"])
    assert "422" not in create["responses"]
    error = create["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(document["components"]["schemas"][error]["properties"]) == {"error"}
    form = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file", "purpose"]


def test_every_shape_that_is_described_is_there(stranger: FlaskClient) -> None:
    document = stranger.get("/openapi.json").json

    for reference in _references(document):
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _references(one)


def test_the_page_for_readers_needs_nothing_from_anywhere_else(stranger: FlaskClient) -> None:
    response = stranger.get("/docs")

    assert response.mimetype == "text/html"
    assert "/v1/batches/{batch_id}/cancel" in response.text
    for loads in ("http://", "https://", "<script", "<link", "src="):
        assert loads not in response.text


def test_two_apps_in_one_process_do_not_share_their_services(client: FlaskClient) -> None:
    other = caller(build_app(World(catalog=Catalog([{"id": "other"}]))), KEY)

    assert other.get("/v1/models").json["data"][0]["id"] == "other"
    assert client.get("/v1/models").json["data"][0]["id"] == "org/small"
