"""A client of the API; errors are a single readable line."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import click
import httpx

from app.cli.client.open_http import open_http, proxy_hint


class ApiError(click.ClickException):
    """The API refused or did not answer; shown as a single line, exit code 1."""


class ApiAway(ApiError):
    """The API can't be reached, or can't answer right now: a retry may succeed."""


class KeyRefused(ApiError):
    """The API does not know the key, or the key was revoked."""


class Connection(NamedTuple):
    """The API's address and the caller's key."""

    base_url: str
    api_key: str


class ApiClient:
    """The API calls of the commands; objects are dicts in the API's shape."""

    def __init__(self, connection: Connection) -> None:
        self._base_url = connection.base_url.rstrip("/")
        self._http = open_http(self._base_url, connection.api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self._http.close()

    def upload(self, path: Path, on_bytes: Callable[[int], None]) -> dict[str, Any]:
        """Upload an input file; `on_bytes` receives the number of bytes sent so far."""
        with path.open("rb") as file:
            return self._ask(
                "POST",
                "/files",
                data={"purpose": "batch"},
                files={"file": (path.name, _CountedReader(file, on_bytes), "application/jsonl")},
            )

    def create_batch(self, input_file_id: str, endpoint: str, window: str) -> dict[str, Any]:
        """Create a batch of an uploaded file."""
        asked = {"input_file_id": input_file_id, "endpoint": endpoint, "completion_window": window}
        return self._ask("POST", "/batches", json=asked)

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch."""
        return self._ask("GET", f"/batches/{batch_id}")

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Cancel a batch."""
        return self._ask("POST", f"/batches/{batch_id}/cancel")

    def batches(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest batches."""
        listed: list[dict[str, Any]] = self._ask("GET", "/batches", params={"limit": limit})["data"]
        return listed

    def download(self, file_id: str, path: Path) -> None:
        """Write a file's content to `path`."""
        try:
            with self._http.stream("GET", f"{self._base_url}/files/{file_id}/content") as answer:
                if answer.is_error:
                    answer.read()
                self._check(answer)
                with path.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
        except httpx.HTTPError as fault:
            raise self._away(fault) from None

    def lines(self, file_id: str) -> Iterator[str]:
        """Yield the lines of a file's content, with a single line in memory at a time."""
        try:
            with self._http.stream("GET", f"{self._base_url}/files/{file_id}/content") as answer:
                if answer.is_error:
                    answer.read()
                self._check(answer)
                yield from answer.iter_lines()
        except httpx.HTTPError as fault:
            raise self._away(fault) from None

    def _ask(self, method: str, path: str, **asked: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, f"{self._base_url}{path}", **asked)
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise self._away(fault) from None
        self._check(answer)
        try:
            parsed = answer.json()
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            cure = proxy_hint(self._base_url) or " Is this the address of wylon?"
            raise ApiError(f"{self._base_url} answered with something else than JSON.{cure}")
        return parsed

    def _away(self, fault: Exception) -> ApiAway:
        cure = proxy_hint(self._base_url) or " Is `wylon up` running?"
        return ApiAway(f"No answer from {self._base_url}: {fault or type(fault).__name__}.{cure}")

    def _check(self, answer: httpx.Response) -> None:
        if not answer.is_error:
            return
        cure = ""
        try:
            message = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message, cure = answer.reason_phrase, proxy_hint(self._base_url)
        kind: type[ApiError] = ApiAway if answer.status_code >= 500 else ApiError
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            kind = KeyRefused
        raise kind(f"{' '.join(message.split())} (HTTP {answer.status_code}){cure and f'.{cure}'}")


class _CountedReader:
    """A file that reports the read position; httpx needs only the methods below."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._on_bytes = on_bytes

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._on_bytes(self._file.tell())
        return data

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
