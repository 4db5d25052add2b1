import asyncio
from typing import Any

import pytest

from app.adapters.upstream.catalog import HttpCatalog
from app.domain.errors import Unavailable
from tests.unit.adapters.upstream_server import Conversation, Handler, answer, once, refusing, serving

HOW: dict[str, Any] = {"api_key": None, "connect_timeout_s": 5.0, "first_byte_timeout_s": 5.0}


def models_of(handler: Handler, times: int = 1, api_key: str | None = None):
    async def ask():
        async with serving(handler) as url:
            catalog = HttpCatalog(url, **HOW | {"api_key": api_key})
            for _ in range(times):
                models = await asyncio.to_thread(catalog.models)
            return models

    return asyncio.run(ask())


def test_models_are_the_objects_that_have_an_id():
    listed = answer(b'{"object":"list","data":[{"id":"a","object":"model"},{"name":"b"},"c",{"id":4}]}')

    assert models_of(once(listed)) == [{"id": "a", "object": "model"}]


def test_the_id_of_a_model_keeps_its_backslash_beside_half_a_character():
    listed = answer(rb'{"data":[{"id":"a\\b","note":"\ud800"}]}')

    assert [model["id"] for model in models_of(once(listed))] == ["a\\b"]


def test_the_upstream_is_asked_with_the_key_and_once_in_a_while_only():
    heads = []

    async def handle(conversation: Conversation) -> None:
        heads.append(await conversation.read_head())
        await conversation.say(answer(b'{"data":[{"id":"a"}]}'))

    models_of(handle, times=3, api_key="secret")

    assert len(heads) == 1
    assert heads[0].startswith(b"get /v1/models ")
    assert b"authorization: bearer secret" in heads[0]


@pytest.mark.parametrize(
    "said",
    [
        answer(b"busy", status="503 Service Unavailable"),
        answer(b"<html>"),
        answer(b"[]"),
        answer(b'{"data":null}'),
        answer(b"[" * 100_000),
        b"",
        b"no HTTP\r\n\r\n",
    ],
)
def test_an_upstream_that_lists_no_models_is_unavailable(said):
    with pytest.raises(Unavailable, match=r"The upstream at http://127\.0\.0\.1:"):
        models_of(once(said))


def test_an_upstream_that_is_not_there_is_unavailable():
    with refusing() as url, pytest.raises(Unavailable, match="does not answer"):
        HttpCatalog(url, **HOW).models()


def test_one_that_did_not_answer_just_now_is_not_waited_for_again():
    heads = []

    async def handle(conversation: Conversation) -> None:
        heads.append(await conversation.read_head())
        await conversation.say(answer(b"busy", status="503 Service Unavailable"))

    async def ask() -> None:
        async with serving(handle) as url:
            catalog = HttpCatalog(url, **HOW)
            for _ in range(2):
                with pytest.raises(Unavailable, match="answered 503"):
                    await asyncio.to_thread(catalog.models)

    asyncio.run(ask())

    assert len(heads) == 1


@pytest.mark.parametrize("headers", [b"content-length: 900000000\r\n\r\n", b"\r\n"], ids=["announced", "endless"])
def test_a_list_of_models_past_all_reason_is_not_read(headers):
    async def flood(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(b"HTTP/1.1 200 OK\r\n" + headers)
        while True:
            await conversation.say(b" " * 65_536)

    with pytest.raises(Unavailable, match="larger than 4194304 bytes"):
        models_of(flood)


def test_a_list_of_models_that_drips_is_waited_for_some_seconds_only():
    async def drip(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await conversation.say(b" ")
            await asyncio.sleep(0.01)

    with pytest.raises(Unavailable, match="does not answer"):
        models_of(drip)
