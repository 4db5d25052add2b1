"""What requests carry beside the line's own, and the time limits of calls."""

import asyncio
import json
import math
from typing import Any

import pytest

from app.adapters.upstream.calling import LimitsByModel, with_members
from app.adapters.upstream.catalog import HttpCatalog
from app.adapters.upstream.client import HttpUpstream
from app.domain.retry import Trouble
from app.domain.upstream import TimeLimit, TimeLimits
from tests.unit.adapters.upstream_server import (
    CHAT,
    Conversation,
    answer,
    call,
    call_at,
    never_accepting,
    on_uvloop,
    once,
    serving,
)

GOOD = b'{"id":"c"}'


def request_of(**how: Any) -> tuple[str, list[str], bytes]:
    """Return the first line, the headers and the body of the request that a call makes."""
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_request())
        await conversation.say(answer(GOOD))

    assert call(handle, **how).trouble is Trouble.NONE
    (head, body), *_ = seen
    line, *headers = head.decode().strip().split("\r\n")
    return line, headers, body


def test_a_query_goes_with_each_request():
    line, _, _ = request_of(query="api-version=2024-10-21")

    assert line == "post /v1/chat/completions?api-version=2024-10-21 http/1.1"


def test_headers_go_with_each_request_and_take_the_place_of_ours():
    _, headers, _ = request_of(headers=[("api-key", "x"), ("User-Agent", "other"), ("authorization", "AD y")])

    assert {"api-key: x", "user-agent: other", "authorization: ad y"} <= set(headers)
    assert len({header.partition(":")[0] for header in headers}) == len(headers)


def test_a_header_that_would_be_two_is_refused():
    with pytest.raises(ValueError, match="header a"):
        call(once(answer(GOOD)), headers=[("a", "b\r\nc: d")])


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{}", b'{"priority":10,"top":{"a":[]}}'),
        (b' { "a" : 1.50 }\n', b' {"priority":10,"top":{"a":[]}, "a" : 1.50 }\n'),
        (b'{"priority":null,"a":"\\ud800"}', b'{"top":{"a":[]},"priority":null,"a":"\\ud800"}'),
        (b'{"top":1,"priority":2,"top":3}', b'{"top":1,"priority":2,"top":3}'),
        (b'{"pri\\u006frity":2,"top":3}', b'{"pri\\u006frity":2,"top":3}'),
        (b"[1]", b"[1]"),
    ],
)
def test_a_body_gets_the_members_that_it_lacks_and_stays_as_it_is_otherwise(body, sent):
    assert with_members(body, [("priority", b"10"), ("top", b'{"a":[]}')]) == sent


def test_members_of_the_body_go_with_each_request():
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_request())
        await conversation.say(answer(GOOD))

    async def run() -> None:
        async with serving(handle) as url:
            upstream = HttpUpstream(url, **HOW, body=[("priority", b"10")])
            await upstream.call(CHAT, b'{"model":"m"}', 5.0)
            await upstream.close()

    on_uvloop(run())

    assert seen[0][1] == b'{"priority":10,"model":"m"}'


def test_an_error_shows_no_secret_that_the_server_repeats():
    page = answer(b"<html>no such key: hush-hush or other-hush")

    said = call(once(page), api_key="hush-hush", secrets=["other-hush"])

    assert said.error[1].endswith("no such key: … or …")


def limits(first_byte_s: float, call_s: float) -> TimeLimits:
    return TimeLimits(TimeLimit(first_byte_s, "first"), TimeLimit(call_s, "whole"))


async def hang(conversation: Conversation) -> None:
    await conversation.read_request()
    await conversation.hang()


@pytest.mark.parametrize(
    ("own", "setting"), [(limits(0.05, 60.0), "first"), (limits(60.0, 0.05), "whole")], ids=["first byte", "whole call"]
)
def test_a_call_that_meets_a_limit_names_it_and_is_final(own, setting):
    said = call(hang, timeout_s=30.0, limits=LimitsByModel(own))

    assert (said.trouble, said.error[0]) == (Trouble.FINAL, "request_timeout")
    assert f"for 0.05 s, the limit that {setting} sets" in said.error[1]


def test_a_call_that_its_batch_has_no_more_time_for_met_no_limit():
    said = call(hang, timeout_s=0.05, limits=LimitsByModel(limits(60.0, 60.0)))

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "request_timeout")


def test_a_server_that_takes_no_connection_is_away_however_short_a_call_may_be():
    with never_accepting() as url:
        said = on_uvloop(call_at(url, timeout_s=0.05, limits=LimitsByModel(limits(60.0, 0.05))))

    assert (said.trouble, said.error[0]) == (Trouble.AWAY, "connect_timed_out")


def test_a_drip_meets_the_limit_of_the_whole_call():
    async def drip(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            await conversation.say(b"x")
            await asyncio.sleep(0.001)

    said = call(drip, timeout_s=30.0, limits=LimitsByModel(limits(30.0, 0.2)))

    assert said.trouble is Trouble.FINAL
    assert "the limit that whole sets" in said.error[1]


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"model":"r1-large"}', 1.0),
        (b'{"model":"r1-small"}', 2.0),
        (b'{"model":"R1-small"}', 3.0),
        (b'{"model":null}', 3.0),
        (b'{"a":"\\ud800","model":"r1-small"}', 2.0),
        (b"[]", 3.0),
    ],
)
def test_the_first_limit_that_has_the_model_holds(body, seconds):
    by_model = LimitsByModel(limits(3.0, math.inf), [("r1-l*", limits(1.0, 1.0)), ("r1-*", limits(2.0, 2.0))])

    assert by_model.of(body).first_byte.seconds == seconds


HOW: dict[str, Any] = {"api_key": "key", "connect_timeout_s": 5.0, "first_byte_timeout_s": 5.0}


def test_a_list_of_models_is_asked_for_as_calls_are_made():
    seen = []

    async def handle(conversation: Conversation) -> None:
        seen.append(await conversation.read_head())
        await conversation.say(answer(json.dumps({"data": [{"id": "m"}]}).encode()))

    async def run() -> None:
        async with serving(handle) as url:
            catalog = HttpCatalog(url, **HOW, query="api-version=1", headers=[("x-team", "t")], body=[("a", b"1")])
            assert await asyncio.to_thread(catalog.models) == [{"id": "m"}]

    asyncio.run(run())

    line, *headers = seen[0].decode().strip().split("\r\n")
    assert line == "get /v1/models?api-version=1 http/1.1"
    assert {"authorization: bearer key", "x-team: t"} <= set(headers)
    assert not any(header.startswith(("content-length", "content-type")) for header in headers)
