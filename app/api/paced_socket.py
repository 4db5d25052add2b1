"""A connection whose peer has to keep pace: who sends or reads slowly is cut off, and only so many are waited for."""

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

# A phone on a bad line does better; 200 MiB at this pace take half a day.
MIN_BYTES_PER_S = 4 * 1024
# How long a peer may be silent at first, or fall behind the pace later.
PATIENCE_S = 20.0
# Long enough for what is on its way already, such as a body sent behind its head; too short to hold a thread by.
_BRIEF_S = 0.1
# Who was fast has no more than this many patiences to be slow in: megabytes in a second would buy hours. One would be
# too few: buffers on the way hand bytes on in lumps, which at a slow pace are further apart than that.
_MOST_PATIENCES = 3
# What neither reads nor writes goes to the socket itself. All that does would pass by the bounds.
_UNBOUNDED = frozenset(
    {
        "close",
        "family",
        "fileno",
        "getpeername",
        "getsockname",
        "getsockopt",
        "gettimeout",
        "proto",
        "setblocking",
        "setsockopt",
        "settimeout",
        "shutdown",
        "type",
    }
)
_SENDFILE_BYTES = 1024 * 1024


class BodyTooSlow(Exception):
    """The body of a request came too slowly. No OSError: those stand for a caller who is gone."""


class TooManySlow(Exception):
    """As many callers as may be are waited for already."""


class PacedSocket:
    """A blocking socket with bounded waits; all else is as with the socket itself.

    Args:
        sock: what is bounded.
        slots: one is held while a thread waits long for this peer; they are fewer than the threads.
        patience_s: see PATIENCE_S.
    """

    def __init__(
        self, sock: socket.socket, slots: threading.BoundedSemaphore, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._sock = sock
        self._slots = slots
        self._patience_s = patience_s
        self._left_s = patience_s

    def __getattr__(self, name: str) -> Any:
        if name not in _UNBOUNDED:
            raise AttributeError(f"A paced socket has no {name!r}: what reads or writes has to be bounded here first.")
        return getattr(self._sock, name)

    def begin_request(self) -> None:
        """Forget how slow the peer has been with the request before."""
        self._left_s = self._patience_s

    def recv(self, size: int) -> bytes:
        """Return what has come, or comes in time; BodyTooSlow or TooManySlow where it does not."""
        while True:
            try:
                data = self._sock.recv(size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._wait(select.POLLIN):
                    raise BodyTooSlow from None
                continue
            self._earn(len(data))
            return data

    def recv_now(self, size: int) -> bytes:
        """Return what has come; BlockingIOError where that is nothing."""
        return self._sock.recv(size, socket.MSG_DONTWAIT)

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Send all, as gunicorn takes for granted; with flags what they say, once and at once."""
        if flags:
            return self._sock.send(data, flags)
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all; BrokenPipeError, as with a peer that is gone, where it is not taken in time."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._send_some(partial(self._sock.send, rest, socket.MSG_DONTWAIT)) :]

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send a part of a file, by the kernel; return how many bytes there were. Errors are those of `sendall`."""
        end = os.fstat(file.fileno()).st_size if count is None else offset + count
        at = offset
        # The kernel would wait for a peer in a socket that blocks.
        self._sock.setblocking(False)
        try:
            while at < end:
                size = min(end - at, _SENDFILE_BYTES)
                sent = self._send_some(partial(os.sendfile, self._sock.fileno(), file.fileno(), at, size))
                if not sent:
                    break
                at += sent
        finally:
            self._sock.setblocking(True)
        return at - offset

    def _send_some(self, send: Callable[[], int]) -> int:
        while True:
            try:
                sent = send()
            except BlockingIOError:
                try:
                    is_ready = self._wait(select.POLLOUT)
                except TooManySlow:
                    is_ready = False
                if not is_ready:
                    raise BrokenPipeError(errno.EPIPE, "the peer reads too slowly") from None
                continue
            self._earn(sent)
            return sent

    def _earn(self, size: int) -> None:
        self._left_s = min(self._left_s + size / MIN_BYTES_PER_S, _MOST_PATIENCES * self._patience_s)

    def _wait(self, event: int) -> bool:
        """Wait until the socket is ready; return whether it was in time."""
        if self._left_s <= 0:
            return False
        poll = select.poll()
        poll.register(self._sock, event)
        began_at = time.monotonic()
        try:
            if poll.poll(min(self._left_s, _BRIEF_S) * 1_000):
                return True
            if not self._slots.acquire(blocking=False):
                raise TooManySlow
            try:
                return bool(poll.poll(self._left_s * 1_000))
            finally:
                self._slots.release()
        finally:
            # Only what was waited counts: the time that a full disk takes is not the peer's.
            self._left_s -= time.monotonic() - began_at
