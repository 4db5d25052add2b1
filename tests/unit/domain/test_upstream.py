import pytest

from app.domain.upstream import Routes, UpstreamSpec

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def spec(name: str, *models: str, endpoints: tuple[str, ...] | None = None) -> UpstreamSpec:
    return UpstreamSpec(
        name,
        (f"http://{name}/v1",),
        models=models or ("*",),
        endpoints=endpoints,
        connect_timeout_s=1.0,
        first_byte_timeout_s=1.0,
        call_timeout_s=1.0,
        max_tries=1,
    )


@pytest.mark.parametrize(
    ("model", "endpoint", "upstream"),
    [
        ("llama-70b", CHAT, "gpu"),
        ("llama-70b", EMBEDDINGS, None),
        ("Llama-70b", CHAT, None),
        ("my-llama-70b", CHAT, None),
        ("mistral-7b", CHAT, "gpu"),
        ("mistral-7b-instruct", CHAT, None),
        ("embed-1", EMBEDDINGS, "embedder"),
        ("embed-12", EMBEDDINGS, None),
        (None, CHAT, "gpu"),
        (None, EMBEDDINGS, "embedder"),
        ("", CHAT, None),
    ],
)
def test_a_line_goes_to_the_first_upstream_that_has_its_model_and_endpoint(
    model: str | None, endpoint: str, upstream: str | None
) -> None:
    routes = Routes([spec("gpu", "llama-*", "mistral-7b", endpoints=(CHAT,)), spec("embedder", "embed-[0-9]")])

    assert routes.route(model, endpoint) == upstream


def test_of_two_that_match_the_first_in_the_files_order_wins() -> None:
    narrow, wide = spec("narrow", "llama-*"), spec("wide", "*")

    assert Routes([narrow, wide]).route("llama-70b", CHAT) == "narrow"
    assert Routes([wide, narrow]).route("llama-70b", CHAT) == "wide"


def test_a_model_is_served_where_any_upstream_has_it_for_any_endpoint() -> None:
    routes = Routes([spec("gpu", "llama-*", endpoints=(CHAT,)), spec("embedder", "embed-?", endpoints=(EMBEDDINGS,))])

    assert routes.serves("llama-70b")
    assert routes.serves("embed-1")
    assert not routes.serves("embed-12")


def test_a_pattern_of_many_stars_is_matched_in_no_time() -> None:
    routes = Routes([spec("gpu", "*a" * 50 + "b")])

    assert not routes.serves("a" * 500)


def test_models_without_a_wildcard_are_named_ones() -> None:
    assert spec("gpu", "llama-*", "mistral-7b", "a?", "b[12]").named_models == ("mistral-7b",)


@pytest.mark.parametrize(
    ("before", "after", "is_idle"),
    [
        (spec("a"), spec("b"), True),
        (spec("a"), spec("b", "m", endpoints=(CHAT,)), True),
        (spec("a", endpoints=(CHAT,)), spec("b", "m"), False),
        (spec("a", endpoints=(CHAT,)), spec("b", "m", endpoints=(CHAT, EMBEDDINGS)), False),
        (spec("a", "llama-*"), spec("b", "llama-7b", "llama-*-chat"), True),
        (spec("a", "llama-*"), spec("b", "llama-7b", "qwen"), False),
        (spec("a", "llama-7b"), spec("b", "llama-*"), False),
        (spec("a", "a?c"), spec("b", "a*c"), False),
        (spec("a", "a?c"), spec("b", "a?c"), True),
        (spec("a", "[*]"), spec("b", "*"), False),
    ],
)
def test_an_upstream_is_idle_where_those_before_it_have_all_that_it_has(
    before: UpstreamSpec, after: UpstreamSpec, is_idle: bool
) -> None:
    assert Routes([before, after]).idle() == (["b"] if is_idle else [])
