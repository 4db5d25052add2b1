"""Heads of answers that are not as they should be, and that other clients read."""

import asyncio
import gzip

import pytest

from app.domain.retry import Trouble
from tests.unit.adapters.upstream_server import Conversation, Handler, answer, call

GOOD = b'{"id":"c"}'
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"a\r\n" + GOOD + b"\r\n0\r\n\r\n"
LENGTH = b"Content-Length: 10\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

READ = {
    "a length beside chunked": OK + b"Content-Length: 99\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "chunked beside a length": OK + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "two equal lengths": OK + LENGTH + LENGTH + b"\r\n" + GOOD,
    "three equal lengths apart": OK + LENGTH + b"x: y\r\n" + LENGTH.lower() + b"x: z\r\n" + LENGTH + b"\r\n" + GOOD,
    "a list of equal lengths": OK + b"Content-Length: 10, 10\r\n\r\n" + GOOD,
    "equal lengths beside chunked": OK + LENGTH + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "identity beside a length": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + GOOD,
    "identity and chunked": OK + b"Transfer-Encoding: identity, chunked\r\n" + LENGTH + b"\r\n" + CHUNKS,
    "lines that end with LF": OK.replace(b"\r", b"") + b"Content-Length: 10\n\n" + GOOD,
    "a folded line": OK + b"x: a\r\n b\r\n\tc\r\n" + LENGTH + b"\r\n" + GOOD,
    "a folded coding": OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "a control character": OK + b"x: a\x01\r\n" + LENGTH + b"\r\n" + GOOD,
    "after an interim answer": b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" + OK + LENGTH + LENGTH + b"\r\n" + GOOD,
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + GOOD,
    "spaces after the size of a chunk": OK + CHUNKED + b"\r\na   \r\n" + GOOD + b"\r\n0  \r\n\r\n",
    "zeros before the size of a chunk": OK + CHUNKED + b"\r\n000A;x=y\r\n" + GOOD + b"\r\n000\r\n\r\n",
}
REFUSED = {
    "unequal lengths": OK + LENGTH + b"Content-Length: 9\r\n\r\n" + GOOD,
    "a list of unequal lengths": OK + b"Content-Length: 10, 9\r\n\r\n" + GOOD,
    "unequal lengths beside chunked": OK + LENGTH + b"Content-Length: 9\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "a length with a sign": OK + b"Content-Length: +10\r\n\r\n" + GOOD,
    "an empty length": OK + b"Content-Length:\r\n" + LENGTH + b"\r\n" + GOOD,
    "a length past all numbers": OK + b"Content-Length: %b\r\n\r\n" % (b"9" * 40) + GOOD,
    "a folded length": OK + b"Content-Length: 1\r\n 0\r\n\r\n" + GOOD,
    "a folded line before all headers": OK + b" x: y\r\n" + LENGTH + b"\r\n" + GOOD,
    "a space before a colon": OK + b"x : y\r\n" + LENGTH + b"\r\n" + GOOD,
    "a line without a colon": OK + b"xyz\r\n" + LENGTH + LENGTH + b"\r\n" + GOOD,
    "chunks packed in chunks": OK + b"Transfer-Encoding: chunked, gzip\r\n" + LENGTH + b"\r\n" + CHUNKS,
    "another protocol": b"ICY 200 OK\r\n" + LENGTH + b"\r\n" + GOOD,
    "another protocol that says no more": b"220 mail.example ESMTP\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n" + LENGTH + b"\r\n" + GOOD,
}


class Always:
    """Answers each request so, and counts the connections."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.count = 0

    async def __call__(self, conversation: Conversation) -> None:
        self.count += 1
        while True:
            await conversation.read_request()
            for piece in self._pieces:
                await conversation.say(piece)
                await asyncio.sleep(0)


@pytest.mark.parametrize("said", READ.values(), ids=READ)
def test_an_answer_that_can_be_read_in_one_way_only_is_read(said):
    assert call(Always(said)).body == GOOD


@pytest.mark.parametrize("said", READ.values(), ids=READ)
def test_such_an_answer_may_come_byte_by_byte(said):
    assert call(Always(*(bytes([byte]) for byte in said))).body == GOOD


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED)
def test_an_answer_whose_end_is_in_doubt_is_refused_at_once(said):
    result = call(Always(said), first_byte_timeout_s=60.0, timeout_s=60.0)

    assert (result.trouble, result.error[0]) == (Trouble.FLAKY, "invalid_response")


@pytest.mark.parametrize("name", ["a length beside chunked", "two equal lengths", "identity beside a length"])
def test_a_connection_with_such_an_answer_is_not_used_again(name):
    always = Always(READ[name])

    assert call(always, times=3).body == GOOD
    assert always.count == 3


def test_what_follows_such_an_answer_is_never_taken_for_the_next_one():
    smuggled = Always(READ["a length beside chunked"] + answer(b'{"for":"nobody"}'))

    assert call(smuggled, times=3).body == GOOD
    assert smuggled.count == 3


@pytest.mark.parametrize("padding", [b"", LENGTH])
def test_a_body_packed_for_its_way_alone_is_unpacked(padding):
    packed = gzip.compress(GOOD)
    head = OK + b"Transfer-Encoding: gzip, chunked\r\n" + padding

    said = call(Always(head + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)))

    assert said.body == GOOD


def test_a_body_packed_twice_is_unpacked_twice_and_not_without_end():
    packed = gzip.compress(gzip.compress(GOOD))

    assert call(Always(answer(packed, "Content-Encoding: gzip, gzip"))).body == GOOD
    assert call(Always(answer(packed, "Content-Encoding: " + ", ".join(["gzip"] * 9)))).error[0] == "invalid_response"


def test_a_body_as_long_as_its_connection_may_be_packed():
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(OK + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(GOOD))

    handler: Handler = handle
    assert call(handler).body == GOOD
