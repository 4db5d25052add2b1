"""The pace that a connection's peer has to keep, on pairs of real sockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.api.paced_socket import BodyTooSlow, PacedSocket

PATIENCE_S = 0.1
# Many times the patience, and far below what the fast bytes below would earn without a bound.
CUT_OFF_WITHIN_S = 3.0
# 16 s at the pace asked for, and less than a pair of sockets holds.
FAST_BYTES = 64 * 1024
# More than a pair of sockets holds.
MANY_BYTES = 4 * 1024 * 1024


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.settimeout(30)
        yield ours, peer


def paced(sock: socket.socket, patience_s: float = PATIENCE_S) -> PacedSocket:
    return PacedSocket(sock, threading.BoundedSemaphore(1), patience_s=patience_s)


def read_all(peer: socket.socket) -> int:
    """Return how many bytes come until the other side closes."""
    count = 0
    while piece := peer.recv(65_536):
        count += len(piece)
    return count


def assert_cut_off(act: Callable[[], object], fault: type[Exception]) -> None:
    began_at = time.monotonic()
    with pytest.raises(fault):
        act()
    assert time.monotonic() - began_at < CUT_OFF_WITHIN_S


def test_send_waits_for_a_reader_until_all_is_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    ours.setblocking(False)

    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(read_all, peer)
        sent = paced(ours, patience_s=20).send(bytes(MANY_BYTES))
        ours.shutdown(socket.SHUT_WR)

        assert (sent, read.result(30)) == (MANY_BYTES, MANY_BYTES)


def test_send_gives_up_on_a_peer_that_does_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    ours.setblocking(False)

    assert_cut_off(lambda: paced(ours).send(bytes(MANY_BYTES)), BrokenPipeError)


def test_a_file_is_sent_to_a_reader_as_far_as_asked(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    ours, peer = pair
    path = tmp_path / "many"
    path.write_bytes(bytes(MANY_BYTES))

    with ThreadPoolExecutor(1) as pool, path.open("rb") as file:
        read = pool.submit(read_all, peer)
        sent = paced(ours, patience_s=20).sendfile(file, 10, MANY_BYTES - 20)
        ours.shutdown(socket.SHUT_WR)

        assert (sent, read.result(30)) == (MANY_BYTES - 20, MANY_BYTES - 20)


def test_a_file_is_not_sent_to_a_peer_that_does_not_read(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, _ = pair
    path = tmp_path / "many"
    path.write_bytes(bytes(MANY_BYTES))

    with path.open("rb") as file:
        assert_cut_off(lambda: paced(ours).sendfile(file), BrokenPipeError)


def test_send_with_flags_does_as_they_say(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair

    sent = paced(ours).send(bytes(MANY_BYTES), socket.MSG_DONTWAIT)

    assert 0 < sent < MANY_BYTES


@pytest.mark.parametrize("name", ["sendmsg", "sendto", "makefile", "recv_into", "recvfrom", "dup", "detach"])
def test_what_would_pass_the_pace_by_is_not_there(pair: tuple[socket.socket, socket.socket], name: str) -> None:
    ours, _ = pair

    with pytest.raises(AttributeError, match=name):
        getattr(paced(ours), name)


def test_a_peer_that_sent_fast_is_not_waited_for_long_once_it_is_silent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    sock = paced(ours)
    peer.sendall(bytes(FAST_BYTES))
    received = 0
    while received < FAST_BYTES:
        received += len(sock.recv(65_536))

    assert_cut_off(lambda: sock.recv(1), BodyTooSlow)


def test_a_peer_that_read_fast_is_not_waited_for_long_once_it_stops(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair

    # What the buffers take at once counts as read.
    assert_cut_off(lambda: paced(ours).sendall(bytes(MANY_BYTES)), BrokenPipeError)


def test_a_peer_that_sent_fast_may_be_silent_for_more_than_one_patience(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    sock = paced(ours, patience_s=1.0)
    peer.sendall(bytes(FAST_BYTES))
    received = 0
    while received < FAST_BYTES:
        received += len(sock.recv(65_536))

    late = threading.Timer(1.5, peer.sendall, [b"late"])
    late.start()

    assert sock.recv(4) == b"late"
    late.join()
