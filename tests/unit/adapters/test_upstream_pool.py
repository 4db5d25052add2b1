import asyncio

import pytest

from app.adapters.upstream.client import HttpUpstream
from app.adapters.upstream.pool import Pool
from app.adapters.upstream.target import read_target
from app.domain.retry import Trouble
from tests.unit.adapters.upstream_server import CHAT, Conversation, Handler, always, answer, call, on_uvloop, serving

GOOD = b'{"id":"c"}'
# Longer than anything here takes; a test that waits for it has failed.
LONG_S = 5.0


class Opened:
    """A handler that remembers the connections it got."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.count = 0

    async def __call__(self, conversation: Conversation) -> None:
        self.count += 1
        await self._handler(conversation)


def client_of(url: str) -> HttpUpstream:
    return HttpUpstream(url, api_key=None, connect_timeout_s=LONG_S, first_byte_timeout_s=LONG_S)


def pool_of(url: str) -> Pool:
    return Pool(read_target(url), connect_timeout_s=LONG_S, silence_s=LONG_S, max_body_bytes=1000)


async def post(pool: Pool) -> None:
    connection = pool.take(pool.now()) or await pool.connect(LONG_S)
    await connection.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)


async def until_closed(connection) -> None:
    async with asyncio.timeout(LONG_S):
        while connection.is_open:
            await asyncio.sleep(0)


def test_calls_at_once_have_a_connection_each_and_the_next_ones_take_them_up():
    opened = Opened(always(answer(GOOD)))

    async def run() -> None:
        async with serving(opened) as url:
            upstream = client_of(url)
            for _ in range(3):
                await asyncio.gather(*(upstream.call(CHAT, b"{}", LONG_S) for _ in range(4)))
            await upstream.close()

    on_uvloop(run())

    assert opened.count == 4


def test_the_connection_used_last_is_taken_first():
    async def run() -> None:
        async with serving(always(answer(GOOD))) as url:
            pool = pool_of(url)
            first, second = await pool.connect(LONG_S), await pool.connect(LONG_S)
            for connection in (second, first):
                await connection.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)

            taken = [pool.take(pool.now()), pool.take(pool.now()), pool.take(pool.now())]

            await pool.close()
            assert taken == [first, second, None]

    on_uvloop(run())


def test_a_connection_that_was_idle_for_long_is_not_taken():
    async def run() -> None:
        async with serving(always(answer(GOOD))) as url:
            pool = pool_of(url)
            connection = await pool.connect(LONG_S)
            await connection.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)
            connection.idle_since -= 4.0

            taken = pool.take(pool.now())

            await pool.close()
            assert taken is None
            assert not connection.is_open

    on_uvloop(run())


def test_connections_idle_for_long_are_closed_while_calls_are_in_flight():
    begun = []

    async def handle(conversation: Conversation) -> None:
        begun.append(conversation)
        await conversation.read_request()
        if len(begun) == 1:
            await conversation.say(answer(GOOD))
        await conversation.hang()

    async def run() -> None:
        async with serving(handle) as url:
            pool = pool_of(url)
            idle = await pool.connect(LONG_S)
            await idle.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)
            idle.idle_since -= 4.0
            busy = await pool.connect(LONG_S)
            answering = busy.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)

            await until_closed(idle)

            assert busy.is_open
            busy.give_up(answering)
            await pool.close()

    on_uvloop(run())


def test_a_connection_that_the_server_closed_while_idle_is_not_taken():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(answer(GOOD))

    async def run() -> None:
        async with serving(handle) as url:
            pool = pool_of(url)
            connection = await pool.connect(LONG_S)
            await connection.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)

            await until_closed(connection)

            assert pool.take(pool.now()) is None
            await pool.close()

    on_uvloop(run())


def test_a_connection_on_which_the_server_speaks_unasked_is_closed():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(answer(GOOD))
        await conversation.say(answer(b'{"for":"nobody"}'))
        await conversation.hang()

    async def run() -> None:
        async with serving(handle) as url:
            pool = pool_of(url)
            connection = await pool.connect(LONG_S)
            await connection.post(b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", pool.now() + LONG_S)

            await until_closed(connection)

            assert pool.take(pool.now()) is None
            await pool.close()

    on_uvloop(run())


@pytest.mark.parametrize(
    "junk",
    [answer(b'{"for":"nobody"}'), b"HTTP/1.1 2", b"no http at all"],
    ids=["a second answer", "the start of one", "no http"],
)
def test_what_follows_an_answer_is_never_taken_for_the_next_one(junk):
    opened = Opened(always(answer(GOOD) + junk))

    said = call(opened, times=3)

    assert (said.trouble, said.body) == (Trouble.NONE, GOOD)
    assert opened.count == 3


@pytest.mark.parametrize(
    ("said", "opened"),
    [
        (answer(GOOD), 1),
        (answer(GOOD, "Connection: close"), 2),
        (answer(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0"), 2),
        (answer(GOOD, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"), 1),
    ],
    ids=["1.1", "1.1 close", "1.0", "1.0 keep-alive"],
)
def test_a_connection_is_kept_as_the_server_says(said, opened):
    counted = Opened(always(said))

    assert call(counted, times=2).body == GOOD
    assert counted.count == opened


def test_a_request_that_was_answered_before_all_of_it_was_sent_leaves_no_connection():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(answer(b"{}", status="413 Content Too Large"))
        await conversation.hang()

    opened = Opened(handle)

    said = call(opened, times=2, body=b'"' + b"x" * 50_000_000 + b'"')

    assert said.status == 413
    assert opened.count == 2


def test_the_connection_of_a_cancelled_call_is_closed_and_not_used_again():
    begun = asyncio.Event()
    gone = asyncio.Event()

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        if begun.is_set():
            await conversation.say(answer(GOOD))
            return
        begun.set()
        await conversation.hang()
        gone.set()

    opened = Opened(handle)

    async def run() -> None:
        async with serving(opened) as url:
            upstream = client_of(url)
            task = asyncio.create_task(upstream.call(CHAT, b"{}", LONG_S))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(LONG_S):
                await gone.wait()
            assert (await upstream.call(CHAT, b"{}", LONG_S)).body == GOOD
            await upstream.close()

    on_uvloop(run())

    assert opened.count == 2


def test_the_connection_of_a_call_that_took_too_long_is_not_used_again():
    asked = []

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.append(conversation)
        if len(asked) > 1:
            await conversation.say(answer(GOOD))
        await conversation.hang()

    async def run() -> None:
        async with serving(handle) as url:
            upstream = client_of(url)
            late = await upstream.call(CHAT, b"{}", 0.05)
            good = await upstream.call(CHAT, b"{}", LONG_S)
            await upstream.close()
            assert late.error[0] == "request_timeout"
            assert good.body == GOOD

    on_uvloop(run())

    assert len(asked) == 2


def test_closing_ends_calls_in_flight():
    begun = asyncio.Event()

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        begun.set()
        await conversation.hang()

    async def run() -> None:
        async with serving(handle) as url:
            upstream = client_of(url)
            task = asyncio.create_task(upstream.call(CHAT, b"{}", LONG_S))
            await begun.wait()
            await upstream.close()
            said = await task
            assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "connection_failed")

    on_uvloop(run())
