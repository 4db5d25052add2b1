import asyncio

import pytest

from app.adapters.upstream.client import HttpUpstream
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.upstream_server import (
    CHAT,
    Conversation,
    always,
    answer,
    call,
    call_at,
    never_accepting,
    on_uvloop,
    refusing,
    serving,
)

GOOD = b'{"id":"c"}'


def test_an_upstream_that_refuses_connections_is_away():
    with refusing() as url:
        said = on_uvloop(call_at(url))

    assert said.trouble is Trouble.AWAY
    assert said.error[0] == "connection_failed"


def test_an_upstream_whose_name_is_not_known_is_away():
    said = on_uvloop(call_at("http://no-such-host.invalid/v1"))

    assert said.trouble is Trouble.AWAY
    assert said.error[0] == "connection_failed"
    assert "no-such-host.invalid" in said.error[1]


def test_an_upstream_that_takes_no_connection_in_time_is_away():
    with never_accepting() as url:
        said = on_uvloop(call_at(url, connect_timeout_s=0.05))

    assert said.trouble is Trouble.AWAY
    assert said.error == ("connect_timed_out", "No connection to the upstream within 0.05 s.")


def test_an_upstream_that_speaks_no_tls_is_away():
    async def handle(conversation: Conversation) -> None:
        await conversation.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def run() -> Answer:
        async with serving(handle) as url:
            return await call_at(url.replace("http:", "https:"))

    said = on_uvloop(run())

    assert said.trouble is Trouble.AWAY
    assert said.error[0] == "connection_failed"
    assert "SSL" in said.error[1]


def test_a_connection_reset_before_the_answer_is_flaky():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        conversation.reset()

    said = call(handle)

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "connection_failed")


def test_a_request_on_a_kept_connection_that_the_server_closes_goes_out_again_at_once():
    heads = []

    async def handle(conversation: Conversation) -> None:
        heads.append(await conversation.read_request())
        await conversation.say(answer(GOOD))
        heads.append(await conversation.read_request())
        if len(heads) % 2:
            conversation.reset()

    said = [call(handle, times=times) for times in (2, 3, 4)]

    assert [(each.trouble, each.body) for each in said] == [(Trouble.NONE, GOOD)] * 3


def test_a_request_goes_out_again_once_only():
    asked = []

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.append(conversation)
        if len(asked) == 1:
            await conversation.say(answer(GOOD))
            await conversation.read_request()
            asked.append(conversation)

    said = call(handle, times=2)

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "connection_failed")
    assert "NothingHeard" in said.error[1]
    assert len(asked) == 3


def test_a_request_on_a_new_connection_that_the_server_closes_does_not_go_out_again():
    asked = []

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.append(conversation)

    assert call(handle).error[0] == "connection_failed"
    assert len(asked) == 1


def test_a_kept_connection_on_which_something_comes_unasked_is_closed_and_its_bytes_are_no_answer():
    async def run() -> tuple[bytes, bool]:
        answered, closed = asyncio.Event(), asyncio.Event()
        asked = []

        async def handle(conversation: Conversation) -> None:
            await conversation.read_request()
            asked.append(conversation)
            await conversation.say(answer(GOOD))
            if len(asked) == 1:
                await answered.wait()
                await conversation.say(answer(b'{"id":"of nobody"}'))
                try:
                    await conversation.hang()
                finally:
                    closed.set()

        async with serving(handle) as url:
            upstream = HttpUpstream(url, api_key=None, connect_timeout_s=5, first_byte_timeout_s=5)
            await upstream.call(CHAT, b"{}", 5.0)
            answered.set()
            async with asyncio.timeout(5):
                await closed.wait()
            said = await upstream.call(CHAT, b"{}", 5.0)
            await upstream.close()
            return said.body, len(asked) == 2

    assert on_uvloop(run()) == (GOOD, True)


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.1 200 OK\r\n", answer(GOOD, length=100)])
def test_a_request_whose_answer_began_does_not_go_out_again(start):
    asked = []

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.append(conversation)
        await conversation.say(answer(GOOD))
        await conversation.read_request()
        asked.append(conversation)
        await conversation.say(start)

    assert call(handle, times=2).trouble is Trouble.FLAKY
    assert len(asked) == 2


def test_no_call_is_lost_to_a_server_that_closes_its_connections_after_each_answer():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        # Without a word that it is the last one.
        await conversation.say(answer(GOOD))

    async def run() -> list[Answer]:
        async with serving(handle) as url:
            upstream = HttpUpstream(url, api_key=None, connect_timeout_s=5, first_byte_timeout_s=5)

            async def call_many() -> list[Answer]:
                return [await upstream.call(CHAT, b"{}", 30.0) for _ in range(25)]

            said = await asyncio.gather(*(call_many() for _ in range(16)))
            await upstream.close()
            return [each for some in said for each in some]

    assert {each.trouble for each in on_uvloop(run())} == {Trouble.NONE}


@pytest.mark.parametrize(
    "limits",
    [{"first_byte_timeout_s": 0.05}, {"timeout_s": 0.05}, {"timeout_s": 0.0}],
    ids=["first byte", "whole call", "no time left"],
)
@pytest.mark.parametrize("said_first", [b"", answer(b'{"id":', length=100)], ids=["before headers", "amid the body"])
def test_an_upstream_that_falls_silent_is_a_timeout(limits, said_first):
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(said_first)
        await conversation.hang()

    said = call(handle, **limits)

    assert said.error[0] == "request_timeout"
    is_own_limit = "first_byte_timeout_s" in limits
    assert said.trouble is (Trouble.FINAL if is_own_limit else Trouble.FLAKY)
    assert ("for 0.05 s, the limit that first_byte_timeout_s sets" in said.error[1]) == is_own_limit


def test_an_upstream_that_never_ends_its_answer_is_a_timeout():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await conversation.say(b"1\r\nx\r\n")
            await asyncio.sleep(0.001)

    assert call(handle, timeout_s=0.1).error[0] == "request_timeout"


def test_a_cancelled_call_is_cancelled():
    async def run() -> None:
        begun = asyncio.Event()

        async def handle(conversation: Conversation) -> None:
            await conversation.read_request()
            begun.set()
            await conversation.hang()

        async with serving(handle) as url:
            task = asyncio.create_task(call_at(url))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    on_uvloop(run())


def test_a_client_that_was_closed_opens_again_for_the_next_call():
    async def run() -> Answer:
        async with serving(always(answer(GOOD))) as url:
            upstream = HttpUpstream(url, api_key=None, connect_timeout_s=5, first_byte_timeout_s=5)
            await upstream.close()
            await upstream.call(CHAT, b"{}", 5.0)
            await upstream.close()
            said = await upstream.call(CHAT, b"{}", 5.0)
            await upstream.close()
            return said

    assert on_uvloop(run()).trouble is Trouble.NONE
