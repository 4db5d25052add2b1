"""Where a body ends, and what becomes of it until it does."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.body_gathering import BodyGathering, Chunks, Framing, KnownLength
from app.domain.errors import StorageFull, Unavailable

NEXT = b"GET / HTTP/1.1\r\n\r\n"
MOST_BYTES = 10_000_000


def chunked(chunks: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    sized = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks if chunk)
    return sized + b"0\r\n" + trailers + b"\r\n"


def end_of(framing: Framing, data: bytes, cuts: list[int]) -> int | None:
    """Return where the body ends when the data comes in these pieces; None where it does not."""
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        at += framing.feed(data[at:cut])
        if framing.is_done:
            return at
    return None


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.sampled_from([b"", b";a", b";a=b", b" ; a"]),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc: d\r\n"]),
    st.lists(st.integers(0, 300), max_size=5),
)
def test_a_body_in_chunks_ends_behind_its_trailers_however_it_is_cut(
    chunks: list[bytes], extension: bytes, trailers: bytes, cuts: list[int]
) -> None:
    body = chunked(chunks, extension, trailers)

    assert end_of(Chunks(), body + NEXT, [min(cut, len(body + NEXT)) for cut in cuts]) == len(body)
    assert end_of(Chunks(), body[:-1], []) is None


@pytest.mark.parametrize("start", [b"zz\r\n", b"-5\r\n", b"\r\n", b"5" * 10_000, b"0\r\n" + b"a: b" * 5_000])
def test_a_body_whose_chunks_are_wrong_is_over_at_once(start: bytes) -> None:
    framing = Chunks()

    framing.feed(start)

    assert framing.is_done


def test_a_body_of_nothing_but_tiny_chunks_is_over_before_they_cost_much() -> None:
    assert (end_of(Chunks(), chunked([b"a"] * 100_000), [*range(0, 600_000, 1_000)]) or 0) < 20_000
    assert end_of(Chunks(), chunked([b"a" * 30] * 100_000), []) == len(chunked([b"a" * 30] * 100_000))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, peer


def test_a_large_body_is_kept_in_a_file_without_a_name(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, peer = pair
    body = BodyGathering(KnownLength(100_000), b"ab", MOST_BYTES, tmp_path)
    peer.sendall(b"c" * 50_000)

    received = body.receive(ours)

    assert received == 50_000
    assert not body.is_over
    assert not body.is_small
    assert not [*tmp_path.iterdir()]
    peer.sendall(b"d" * 49_998 + NEXT)
    assert body.receive(ours) == 49_998
    assert body.is_over
    # The next request stays where it is.
    assert ours.recv(100) == NEXT
    assert body.rewound().read() == b"ab" + b"c" * 50_000 + b"d" * 49_998
    body.close()


def test_what_comes_behind_a_body_is_the_start_of_the_next_request() -> None:
    body = BodyGathering(Chunks(), chunked([b"abc"]) + NEXT, MOST_BYTES, None)

    assert body.is_over
    assert body.rest == NEXT
    body.close()


def test_a_body_over_its_limit_is_over_and_says_why() -> None:
    body = BodyGathering(Chunks(), chunked([b"a" * 2_000]), 1_000, None)

    assert body.is_over
    assert isinstance(body.fault, RequestEntityTooLarge)
    body.close()


def test_a_caller_that_is_gone_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    body = BodyGathering(KnownLength(10), b"", MOST_BYTES, None)
    assert body.receive(ours) == 0
    peer.close()

    assert body.receive(ours) is None
    body.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to stand for a full disk")
@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, Unavailable)])
def test_a_body_that_cant_be_kept_is_over_and_says_why(code: int, kind: type[Exception]) -> None:
    class Failing:
        def write(self, _data: bytes) -> int:
            raise OSError(code, "it failed")

        def close(self) -> None:
            pass

    body = BodyGathering(KnownLength(10), b"", MOST_BYTES, None, open_file=Failing)
    body.take(b"a")

    assert isinstance(body.fault, kind)
    body.close()
