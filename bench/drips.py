"""Callers that drip, in a process of their own: a caller sends or reads a byte every 50 ms.

`python -m bench.drips ADDRESS KEY KIND COUNT` keeps COUNT callers busy until standard input closes. A refused caller
connects again.
"""

import heapq
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_EACH_S = 0.05
_CONNECT_TIMEOUT_S = 5.0
_FORM = (
    "content-type: multipart/form-data; boundary=cut\r\ncontent-length: 5000000\r\n\r\n--cut\r\ncontent-disposition: "
    'form-data; name="file"; filename="in.jsonl"\r\n\r\n'
)
_JSON = "content-type: application/json\r\ncontent-length: 500000\r\n\r\n{{"
# The first bytes by kind of caller; then the caller sends byte by byte. `readers` send a whole request, and read byte
# by byte.
KINDS = {
    "heads": "GET /v1/batches HTTP/1.1\r\n{key}x-slow: ",
    "uploads": "POST /v1/files HTTP/1.1\r\n{key}" + _FORM,
    "bodies": "POST /v1/batches HTTP/1.1\r\n{key}" + _JSON,
    "chunks": "POST /v1/batches HTTP/1.1\r\n{key}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    "7a120\r\n{{",
    "strangers": "POST /v1/files HTTP/1.1\r\nhost: test\r\nauthorization: Bearer wrong\r\n" + _FORM,
    "readers": "GET {path} HTTP/1.1\r\n{key}\r\n",
}


def said(kind: str, key: str, path: str = "/v1/files") -> bytes:
    """Return the first bytes of a caller of this kind, before the drip."""
    return KINDS[kind].format(key=f"host: test\r\nauthorization: Bearer {key}\r\n", path=path).encode()


@contextmanager
def dripping(address: str, key: str, kind: str, count: int, path: str = "/v1/files") -> Iterator[None]:
    """Keep `count` callers of a kind busy, in a process of their own."""
    command = [sys.executable, "-m", "bench.drips", address, key, kind, str(count), path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"dripping\n":
                raise RuntimeError("The callers that drip did not start.")
            yield
        finally:
            process.kill()


class _Caller:
    def __init__(self, address: tuple[str, int], first: bytes, *, is_reader: bool) -> None:
        self._address = address
        self._first = first
        self._is_reader = is_reader
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        # A small receive buffer: larger buffers on the way would hold megabytes before the server sees a slow reader.
        self._socket = socket.socket(socket.AF_INET)
        if self._is_reader:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._socket.settimeout(_CONNECT_TIMEOUT_S)
        self._socket.connect(self._address)
        self._socket.sendall(self._first)

    def drip(self) -> None:
        """Send or read a byte; connect again if the server has closed."""
        try:
            if self._socket is None:
                self.connect()
            elif self._is_reader:
                if not self._socket.recv(1, socket.MSG_DONTWAIT):
                    self._close()
            else:
                self._socket.send(b"a", socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _main(address: str, key: str, kind: str, count: str, path: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    parts = urlsplit(address)
    target = (parts.hostname or "127.0.0.1", parts.port or 80)
    callers = [_Caller(target, said(kind, key, path), is_reader=kind == "readers") for _ in range(int(count))]
    for caller in callers:
        caller.drip()
    print("dripping", flush=True)
    began_at = time.monotonic()
    due = [(began_at + _EACH_S * number / len(callers), number) for number in range(len(callers))]
    heapq.heapify(due)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            at, number = due[0]
            if selector.select(max(0.0, at - time.monotonic())):
                return
            callers[number].drip()
            # A late caller does not catch up by a burst.
            heapq.heapreplace(due, (max(at + _EACH_S, time.monotonic()), number))


if __name__ == "__main__":
    _main(*sys.argv[1:])
