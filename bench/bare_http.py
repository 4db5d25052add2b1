"""A caller of the API that costs next to nothing: one kept connection, requests as bytes, answers by their length."""

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from bench.processes import API_KEY

_WITHIN_S = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_READ_BYTES = 64 * 1024


class BareCaller:
    """A kept connection to the API at `url`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = parts.path
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {API_KEY}\r\n"
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), _WITHIN_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "BareCaller":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, path: str) -> dict[str, Any]:
        """Return the object at a path, such as `/batches/ID`."""
        return self._call("GET", path, "", b"")

    def post(self, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Post an object."""
        return self._call("POST", path, "Content-Type: application/json\r\n", json.dumps(wanted).encode())

    def upload(self, name: str, data: bytes) -> str:
        """Upload an input file; return its id."""
        fields = (
            f'--bench\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--bench\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        body = fields.encode() + data + b"\r\n--bench--\r\n"
        return str(self._call("POST", "/files", "Content-Type: multipart/form-data; boundary=bench\r\n", body)["id"])

    def _call(self, method: str, path: str, kind: str, body: bytes) -> dict[str, Any]:
        head = f"{method} {self._base}{path} HTTP/1.1\r\n{self._head}{kind}Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._receive()
        length = _LENGTH.search(answer, 0, end + 2)
        if length is None:
            raise RuntimeError(f"The API answered without a length: {answer[:1_000]!r}")
        while len(answer) < end + 4 + int(length[1]):
            answer += self._receive()
        if not answer.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(f"{method} {path}: {answer[:1_000]!r}")
        found: dict[str, Any] = json.loads(answer[end + 4 :])
        return found

    def _receive(self) -> bytes:
        piece = self._socket.recv(_READ_BYTES)
        if not piece:
            raise RuntimeError("The API closed the connection.")
        return piece
