"""A caller of the API who does not give up while something is down."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.chaos.house import API_KEY
from tests.integration.pipeline import CHAT

_TIMEOUT_S = 5.0
_AGAIN_S = 0.2
# What the API may answer while something that it needs is away.
_AWAY = frozenset({503, 507})
# A conflict is an answer too: what was asked for has been settled otherwise.
_TAKEN = frozenset({200, 201, 409})


class TooLate(Exception):
    """The API did not answer before the deadline."""


class Refused(Exception):
    """The API refused what it should take; says what."""


class Caller:
    """Uploads, creates, polls, cancels; repeats are made safe by idempotency keys."""

    def __init__(self, base_url: str) -> None:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)
        # Answers that say that there is a bug.
        self.faults: list[str] = []

    def close(self) -> None:
        self._client.close()

    def create(self, content: bytes, key: str, window: str, deadline: float) -> dict[str, Any]:
        """Upload the input and create its batch; return the batch."""
        file = self._insist(
            lambda: self._client.post(
                "/files",
                files={"file": ("in.jsonl", content)},
                data={"purpose": "batch"},
                headers={"Idempotency-Key": f"{key}-file"},
            ),
            deadline,
        )
        body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": window}
        headers = {"Idempotency-Key": f"{key}-batch"}
        return self._insist(lambda: self._client.post("/batches", json=body, headers=headers), deadline)

    def try_upload(self, content: bytes) -> int | None:
        """Upload once; return the status, None where there was no answer."""
        try:
            answer = self._client.post("/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"})
        except httpx.HTTPError:
            return None
        return answer.status_code

    def look(self, batch_id: str) -> dict[str, Any] | None:
        """Return the batch; None where the API can't say just now."""
        return self._ask(lambda: self._client.get(f"/batches/{batch_id}"))

    def cancel(self, batch_id: str, deadline: float) -> None:
        """Ask for a cancel; that it comes too late is no fault."""
        self._insist(lambda: self._client.post(f"/batches/{batch_id}/cancel"), deadline)

    def delete_file(self, file_id: str, deadline: float) -> None:
        self._insist(lambda: self._client.delete(f"/files/{file_id}"), deadline)

    def content(self, file_id: str, deadline: float) -> bytes:
        while time.monotonic() < deadline:
            try:
                answer = self._client.get(f"/files/{file_id}/content")
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return answer.content
            if answer is not None and answer.status_code not in _AWAY:
                self.faults.append(f"content of {file_id}: {answer.status_code} {answer.text[:200]}")
            time.sleep(_AGAIN_S)
        raise TooLate(f"the content of {file_id} could not be read")

    def _insist(self, send: Callable[[], httpx.Response], deadline: float) -> dict[str, Any]:
        while time.monotonic() < deadline:
            found = self._ask(send)
            if found is not None:
                return found
            time.sleep(_AGAIN_S)
        raise TooLate("the API did not take a request")

    def _ask(self, send: Callable[[], httpx.Response]) -> dict[str, Any] | None:
        try:
            answer = send()
        except httpx.HTTPError:
            return None
        if answer.status_code in _AWAY:
            return None
        if answer.status_code not in _TAKEN:
            request = answer.request
            told = f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:200]}"
            if answer.status_code < 500:
                # No other answer will come, however often it is asked for.
                raise Refused(told)
            self.faults.append(told)
            return None
        found: dict[str, Any] = answer.json()
        return found
