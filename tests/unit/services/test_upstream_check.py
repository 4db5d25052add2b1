import asyncio
import json
from dataclasses import replace

import pytest

from app.domain.result import REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.domain.upstream import Routes, UpstreamSpec
from app.services.ports import Answer
from app.services.upstream_check import ServerCheck, UpstreamCheckService
from tests.fakes.outside import ScriptedUpstream
from tests.unit.domain.test_upstream import CHAT, EMBEDDINGS, spec

PATIENCE_S = 5.0


class Server(ScriptedUpstream):
    """A server that lists these models, or none, and answers from a script."""

    def __init__(self, *script: Answer, listed: list[str] | None = None) -> None:
        super().__init__(script)
        self._listed = listed

    async def models(self) -> list[str] | None:
        return self._listed

    def asked(self) -> list[tuple[str, str]]:
        return [(endpoint, json.loads(body)["model"]) for endpoint, body, _ in self.calls]


def refusal(status: int, message: str = "", **error: str) -> Answer:
    body = json.dumps({"error": {"message": message, **error}}).encode()
    return Answer(Trouble.FINAL, status, "upstream-1", body)


def failure(message: str) -> Answer:
    return Answer(Trouble.AWAY, error=("connection_failed", message))


def check(
    server: Server,
    *specs: UpstreamSpec,
    endpoints: tuple[str, ...] = (CHAT, EMBEDDINGS),
    may_stop_at_list: bool = False,
) -> ServerCheck:
    """Return what is found of the last of these upstreams."""
    service = UpstreamCheckService(
        Routes(specs), endpoints, lambda spec, url: server, PATIENCE_S, may_stop_at_list=may_stop_at_list
    )
    return asyncio.run(service.check(specs[-1:]))[0]


def test_a_server_that_answers_is_fine_and_says_how_long_it_took() -> None:
    server = Server(listed=["llama-1", "other"])

    found = check(server, spec("gpu", "llama-*"))

    assert (found.upstream, found.url, found.is_fine, found.models) == ("gpu", "http://gpu/v1", True, ("llama-1",))
    assert found.outcome.startswith("answers in ")
    assert server.asked() == [(CHAT, "llama-1")]
    assert json.loads(server.calls[0][1])["max_tokens"] == 1
    assert server.calls[0][2] == PATIENCE_S


@pytest.mark.parametrize(
    ("models", "listed", "asked"),
    [
        (("llama-*", "qwen"), ["llama-1", "qwen"], "qwen"),
        (("qwen", "phi"), ["qwen"], "phi"),
        (("qwen",), None, "qwen"),
        (("*",), ["one", "two"], "one"),
    ],
)
def test_the_model_asked_for_is_one_that_is_named_and_first_one_in_doubt(
    models: tuple[str, ...], listed: list[str] | None, asked: str
) -> None:
    server = Server(listed=listed)

    check(server, spec("gpu", *models))

    assert server.asked() == [(CHAT, asked)]


def test_a_model_that_goes_to_another_upstream_is_not_asked_for() -> None:
    server = Server(listed=["llama-1", "qwen"])

    found = check(server, spec("gpu", "llama-*"), spec("rest", "*"))

    assert server.asked() == [(CHAT, "qwen")]
    assert found.models == ("qwen",)


def test_an_upstream_is_tried_by_the_endpoint_that_it_has() -> None:
    server = Server(listed=["embed"])

    check(server, spec("embedder", "*", endpoints=(EMBEDDINGS,)))

    assert server.asked() == [(EMBEDDINGS, "embed")]


def test_models_that_are_named_and_neither_listed_nor_tried_are_told() -> None:
    found = check(Server(listed=["qwen"]), spec("gpu", "qwen", "phi", "yi"))

    assert found.is_fine
    assert found.outcome.endswith(" ms; does not list yi")


def test_a_server_that_wants_another_name_for_the_bound_on_tokens_is_asked_again() -> None:
    server = Server(refusal(400, "'max_tokens' is not supported: use 'max_completion_tokens'."))

    found = check(server, spec("cloud", "o9"))

    assert found.is_fine
    assert json.loads(server.calls[1][1])["max_completion_tokens"] == 1
    assert "max_tokens" not in json.loads(server.calls[1][1])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (
            failure("No connection to the upstream: ConnectionRefusedError: [Errno 111] x (gpu:80)"),
            "refuses connections",
        ),
        (
            failure(
                "No connection to the upstream: OSError: Multiple exceptions: [Errno 111] a, [Errno 111] b (gpu:80)"
            ),
            "refuses connections",
        ),
        (
            failure("No connection to the upstream: gaierror: [Errno -2] Name or service not known (gpu:80)"),
            "no connection: Name or service not known",
        ),
        (failure("No connection to the upstream within 2 s."), "no connection to the upstream within 2 s"),
        (Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT), "takes the call and does not answer within 5 s"),
        (refusal(401, "Wrong key."), "401: check GPU_KEY"),
        (refusal(403), "403: check GPU_KEY"),
        (refusal(404, "The model `m` does not exist."), "model m is not there"),
        (refusal(404, "Nope.", code="model_not_found"), "model m is not there"),
        (refusal(400, "Invalid model name passed in model=m"), "model m is not there"),
        (refusal(400, "The prompt is too long for m."), "400: The prompt is too long for m."),
        (refusal(404, "Not Found"), f"404 at {CHAT}: check the URL and endpoints; it says: Not Found"),
        (
            Answer(Trouble.FINAL, 404, "", b'{"detail":"Not Found"}'),
            f"404 at {CHAT}: check the URL and endpoints; it says: Not Found",
        ),
        (refusal(429, "Slow down."), "429: it takes no more calls now: Slow down."),
        (refusal(500, "Out of\nmemory."), "500: Out of memory."),
        (refusal(500, f"I know {'sk-hush'}."), "500: I know …."),
        (refusal(500, "x" * 1_000), "500: " + "x" * 155 + "…"),
        (Answer(Trouble.FLAKY, 502, "", b"<html>"), "502: <html>"),
        (Answer(Trouble.FLAKY, 502, "", b"{}"), "502: it says no more"),
        (Answer(Trouble.FLAKY, 502, "", b'{"error":"away"}'), "502: away"),
        (Answer(Trouble.FLAKY, 502, "", b"[1]"), "502: [1]"),
    ],
)
def test_what_goes_wrong_is_told_in_words(answer: Answer, outcome: str) -> None:
    found = check(Server(answer), replace(spec("gpu", "m"), api_key="sk-hush", api_key_variable="GPU_KEY"))

    assert (found.is_fine, found.outcome) == (False, outcome)


def test_a_server_that_wants_a_key_where_none_is_given_says_where_it_goes() -> None:
    found = check(Server(refusal(401)), spec("gpu", "m"))

    assert found.outcome == "401: it wants a key: name the variable that holds it by api_key_env"


def test_a_server_that_wants_the_key_of_a_variable_that_is_not_set_names_the_variable() -> None:
    found = check(Server(refusal(401)), replace(spec("gpu", "m"), api_key_variable="WYLON_UPSTREAM_API_KEY"))

    assert found.outcome == "401: it wants a key: put it into WYLON_UPSTREAM_API_KEY"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (failure("No connection to the upstream: ConnectionRefusedError: x (gpu:80)"), "refuses connections"),
        (refusal(401), "401: it wants a key: name the variable that holds it by api_key_env"),
        (refusal(404, "The model `none` does not exist."), "lists no models: name one in full in models, so that it"),
        (refusal(404, "Not Found"), "404 at /chat/completions below this URL: is this a model server?"),
    ],
)
def test_without_a_model_to_ask_for_it_is_seen_whether_the_server_is_there(answer: Answer, outcome: str) -> None:
    found = check(Server(answer), spec("gpu", "*"))

    assert not found.is_fine
    assert found.outcome.startswith(outcome)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://gpu", "does the URL lack /v1?"),
        ("http://gpu/openai", "does the URL lack /v1?"),
        ("http://gpu/v1", "is this a model server?"),
        ("http://gpu/v1/chat/completions", "leave out /chat/completions at the end of the URL"),
        ("http://gpu/v1/embeddings", "leave out /embeddings at the end of the URL"),
    ],
)
def test_a_url_below_which_nothing_is_gets_the_hint_that_fits_the_url(url: str, hint: str) -> None:
    found = check(Server(refusal(404, "Not Found")), replace(spec("gpu", "*"), urls=(url,)))

    assert found.outcome == f"404 at /chat/completions below this URL: {hint}"


def test_a_server_that_lists_no_model_of_the_upstream_is_not_fine() -> None:
    server = Server(listed=["qwen"])

    found = check(server, spec("gpu", "llama-*"))

    assert (found.is_fine, found.models) == (False, ())
    assert found.outcome == "lists no model that lines for this upstream may name"
    assert server.calls == []


def test_an_upstream_of_endpoints_that_no_call_is_known_for_is_tried_by_its_list() -> None:
    found = check(Server(listed=["ranker"]), spec("gpu", endpoints=("/v1/rerank",)), endpoints=(CHAT, "/v1/rerank"))

    assert found.is_fine
    assert found.outcome == "lists its models; there is no call to try its endpoints by"


def test_servers_come_in_the_order_of_the_file_and_are_asked_side_by_side() -> None:
    waiting = asyncio.Barrier(3)

    class Meeting(Server):
        async def models(self) -> list[str] | None:
            await asyncio.wait_for(waiting.wait(), 20)
            return ["m"]

    specs = [replace(spec("b", "m"), urls=("http://b1/v1", "http://b2/v1")), spec("a", "*")]
    service = UpstreamCheckService(Routes(specs), (CHAT,), lambda spec, url: Meeting(), 30.0)

    found = asyncio.run(service.check(specs))

    assert [(each.upstream, each.url) for each in found] == [
        ("b", "http://b1/v1"),
        ("b", "http://b2/v1"),
        ("a", "http://a/v1"),
    ]


def test_at_a_start_a_server_that_lists_its_models_is_not_called() -> None:
    server = Server(listed=["m", "n"])

    found = check(server, spec("gpu", "*"), may_stop_at_list=True)

    assert (found.is_fine, found.models, server.calls) == (True, ("m", "n"), [])


def test_at_a_start_a_named_model_that_is_not_listed_is_told_without_a_call() -> None:
    server = Server(listed=["other"])

    found = check(server, spec("gpu", "m"), may_stop_at_list=True)

    assert (found.is_fine, found.outcome, server.calls) == (False, "does not list m", [])


def test_at_a_start_a_server_that_lists_no_models_is_called() -> None:
    found = check(Server(refusal(401)), spec("gpu", "m"), may_stop_at_list=True)

    assert not found.is_fine
    assert found.outcome.startswith("401")
