import gzip
import tracemalloc

import pytest

from app.domain.limits import MAX_ANSWER_BYTES
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.upstream_server import Conversation, Handler, answer, call, once

LIMIT = 100_000
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def is_too_large(said: Answer) -> bool:
    return said.trouble is Trouble.FINAL and said.error is not None and said.error[0] == "response_too_large"


def text_of(size: int) -> bytes:
    """Return a JSON text of this many bytes."""
    return b'["%b"]' % (b"x" * (size - 4))


def endless(first: bytes, piece: bytes) -> Handler:
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(first)
        while True:
            await conversation.say(piece)

    return handle


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_answer_as_large_as_the_limit_is_taken(is_chunked):
    body = text_of(LIMIT)

    said = call(once(CHUNKED + chunk(body) + chunk(b"") if is_chunked else answer(body)), max_answer_bytes=LIMIT)

    assert said.body == body


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_answer_one_byte_over_the_limit_is_too_large(is_chunked):
    body = text_of(LIMIT + 1)

    said = call(once(CHUNKED + chunk(body) + chunk(b"") if is_chunked else answer(body)), max_answer_bytes=LIMIT)

    assert is_too_large(said)


@pytest.mark.parametrize(
    "handler",
    [
        endless(answer(b"", length=10**12), b"x" * 65_536),
        endless(CHUNKED, chunk(b"x" * 65_536)),
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
    ],
    ids=["content-length", "chunked", "until the end"],
)
def test_an_endless_answer_is_left_and_its_connection_closed(handler):
    # The handler ends only when the client closed the connection, and the server waits for it.
    assert is_too_large(call(handler, max_answer_bytes=LIMIT))


def test_the_next_call_after_an_answer_that_is_too_large_is_answered():
    asked = []

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.append(conversation)
        await conversation.say(answer(text_of(LIMIT * 2)) if len(asked) == 1 else answer(b"{}"))

    said = call(handle, times=2, max_answer_bytes=LIMIT)

    assert said.trouble is Trouble.NONE


def test_a_compressed_answer_is_unpacked():
    said = call(once(answer(gzip.compress(text_of(LIMIT)), "content-encoding: gzip")), max_answer_bytes=LIMIT)

    assert said.body == text_of(LIMIT)


def test_a_compressed_answer_is_measured_unpacked():
    bomb = gzip.compress(text_of(200_000_000), compresslevel=1)

    tracemalloc.start()
    try:
        said = call(once(answer(bomb, "content-encoding: gzip")))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert is_too_large(said)
    assert len(bomb) < MAX_ANSWER_BYTES
    assert peak_bytes < 2 * MAX_ANSWER_BYTES
