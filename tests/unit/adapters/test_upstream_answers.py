"""The shapes that an HTTP/1.1 answer may have on the wire."""

import asyncio
import gzip
import json
import zlib

import pytest

from app.domain.retry import Trouble
from tests.unit.adapters.upstream_server import Conversation, Handler, always, answer, call, once

GOOD = b'{"id":"c"}'
PACKED_RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)


def endless(first: bytes, piece: bytes) -> Handler:
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(first)
        while True:
            await conversation.say(piece)

    return handle


def byte_by_byte(said: bytes) -> Handler:
    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        for byte in said:
            await conversation.say(bytes([byte]))
            await asyncio.sleep(0)
        await conversation.hang()

    return handle


@pytest.mark.parametrize(
    "said",
    [
        answer(GOOD),
        b"HTTP/1.1 200 OK\r\n\r\n" + GOOD,
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + GOOD,
        b"HTTP/1.0 200 OK\r\n\r\n" + GOOD,
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{"id\r\n6;a=b\r\n":"c"}\r\n0\r\n\r\n',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\na\r\n" + GOOD + b"\r\n0\r\nx-checksum: 1\r\n\r\n",
    ],
    ids=["content-length", "until the end", "close", "HTTP/1.0", "chunked", "trailer"],
)
def test_a_body_ends_where_its_headers_say(said):
    assert call(once(said)).body == GOOD


@pytest.mark.parametrize(
    "said",
    [
        answer(GOOD),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n" + GOOD + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(GOOD),
    ],
    ids=["content-length", "chunked", "interim"],
)
def test_an_answer_may_come_byte_by_byte(said):
    assert call(byte_by_byte(said)).body == GOOD


def test_interim_answers_are_passed_over_with_their_headers():
    hints = b"HTTP/1.1 103 Early Hints\r\nx-request-id: not-this\r\n\r\n"

    said = call(always(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + answer(GOOD, "X-Request-ID: this")), times=2)

    assert (said.status, said.body, said.request_id) == (200, GOOD, "this")


def test_a_trailer_is_no_header():
    said = call(
        once(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-request-id: trailing\r\n\r\n")
    )

    assert said.request_id.startswith("req_")


def test_an_answer_that_must_be_empty_ends_with_its_headers():
    said = call(always(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n"), times=2)
    assert (said.trouble, said.status) == (Trouble.FINAL, 304)

    said = call(always(b"HTTP/1.1 204 No Content\r\n\r\n"), times=2)
    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "invalid_response")


@pytest.mark.parametrize(
    "handler",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"x" * 1_000 + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nx-long: ", b"x" * 1_000),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nx-long: ", b"x" * 1_000),
    ],
    ids=["headers", "a header", "interim answers", "a trailer"],
)
def test_headers_without_end_are_left_and_their_connection_closed(handler):
    # The handler ends only when the client closed the connection, and the server waits for it.
    said = call(handler)

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "invalid_response")
    assert "headers" in said.error[1]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
    ],
    ids=["upgrade", "two lengths", "length and chunks", "negative length", "broken chunk"],
)
def test_an_answer_whose_end_cannot_be_told_is_flaky(said):
    result = call(once(said))

    assert (result.trouble, result.error[0]) == (Trouble.FLAKY, "invalid_response")


def test_headers_that_are_cut_off_are_a_broken_connection():
    result = call(once(b"HTTP/1.1 200 OK\r\ncontent-le"))

    assert (result.trouble, result.error[0]) == (Trouble.FLAKY, "connection_failed")


@pytest.mark.parametrize(
    "packed",
    [zlib.compress(GOOD), PACKED_RAW.compress(GOOD) + PACKED_RAW.flush()],
    ids=["zlib", "raw"],
)
def test_deflate_is_unpacked_with_and_without_its_header(packed):
    assert call(once(answer(packed, "Content-Encoding: Deflate"))).body == GOOD


LARGE = json.dumps({"id": "x" * 100_000}).encode()


@pytest.mark.parametrize("after", [b"", b"\r\n", bytes(70_000)], ids=["nothing", "a line end", "padding"])
@pytest.mark.parametrize("body", [GOOD, LARGE], ids=["small", "large"])
def test_a_gzip_body_of_several_members_is_unpacked_whole_whatever_follows_it(body, after):
    packed = gzip.compress(body[:4]) + gzip.compress(b"") * 1_000 + gzip.compress(body[4:])

    assert call(once(answer(packed + after, "Content-Encoding: gzip"))).body == body


def test_bytes_after_a_deflated_body_are_ignored():
    assert call(once(answer(zlib.compress(LARGE) + b"\x1f\0", "Content-Encoding: deflate"))).body == LARGE


@pytest.mark.parametrize(
    ("body", "coding"),
    [(zlib.compress(GOOD)[:-6], "deflate"), (b"", "gzip"), (GOOD, "br")],
    ids=["cut", "empty", "unknown"],
)
def test_a_body_that_cannot_be_unpacked_is_flaky(body, coding):
    said = call(once(answer(body, f"content-encoding: {coding}")))

    assert (said.trouble, said.error[0]) == (Trouble.FLAKY, "invalid_response")
    assert coding in said.error[1]


def test_a_body_in_no_coding_is_taken_as_it_is():
    assert call(once(answer(GOOD, "content-encoding: identity"))).body == GOOD


def test_an_error_in_many_small_pieces_is_shown_by_its_start():
    page = b"".join(b"1\r\ny\r\n" for _ in range(20_000))

    said = call(
        once(b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n" + page), max_answer_bytes=10_000
    )

    assert (said.trouble, said.status) == (Trouble.AWAY, 503)
    assert b"y" * 2_000 in said.body
